// Package schedule is when a job is due: ISO 8601 repeating intervals, R5/2026-03-01T03:00:00/P1D,
// and cron expressions, "cron 0 3 * * 1-5", in any time zone. It is pure: what is due is a
// function of the text, and of the time that is asked about.
//
//	s, err := schedule.Parse("R/2026-03-01T03:00:00/P1D", "Europe/Berlin", now)
//	due, ok := s.Next(now)          // the first due time after now
//	left, finite := s.Runs()        // forever
//	text := s.Text(due, left)       // what clients are shown: the schedule from due on
//
// Years, months, weeks and days are counted on the calendar of the zone, so that a job
// of 03:00 stays one of 03:00 when clocks change; hours, minutes and seconds are counted
// as they pass. Every count begins at the start that was given: a monthly job of the 31st is due on the
// 28th or 30th where there is no 31st, and on the 31st again. A time of day that clocks skip comes
// as much later; one that they show twice counts the first time.
package schedule
