package apps

import "github.com/gantry-project/gantry/plugins/framework/marathon/definition"

import "time"

// backoff delays launches of an app whose tasks end by themselves. The zero value delays
// nothing.
type backoff struct {
	since time.Time
	delay time.Duration
	most  time.Duration
}

// increase is called when a task failed or finished.
func (b *backoff) increase(now time.Time, a *definition.App) {
	b.most = time.Duration(a.MaxLaunchDelaySeconds) * time.Second
	if b.delay == 0 {
		b.delay = time.Duration(a.BackoffSeconds) * time.Second
	} else {
		b.delay = time.Duration(min(float64(b.delay)*a.BackoffFactor, float64(b.most)))
	}
	b.delay = min(b.delay, b.most)
	b.since = now
}

// advance restarts the clock: a launch that is under way is given time to prove itself.
func (b *backoff) advance(now time.Time) {
	if b.delay > 0 {
		b.since = now
	}
}

// settleDown forgets a delay that nothing has added to for the longest one.
func (b *backoff) settleDown(now time.Time) {
	if b.delay > 0 && now.After(b.since.Add(b.most)) {
		*b = backoff{}
	}
}

// until is when launches may go on; never when they may.
func (b *backoff) until() time.Time {
	if b.delay == 0 {
		return never
	}
	return b.since.Add(b.delay)
}

func (b *backoff) delays(now time.Time) bool { return b.delay > 0 && now.Before(b.until()) }
