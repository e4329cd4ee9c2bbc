package api

import (
	"cmp"
	"strings"
)

// absences are endpoints that clients of a server know and that are not served, each with
// the reason; what is below one is absent with it. What is served takes precedence.
type absences map[string]string

// masterAbsences are of masters alone.
var masterAbsences = absences{
	"/files":        "The master's own files are not served; an agent serves /files/browse and /files/read for its sandboxes.",
	"/quota":        "Quota is not supported yet.",
	"/registrar(1)": "The registry is not shown over HTTP yet; gantry mend reads it.",
}

// agentAbsences are of agents alone.
var agentAbsences = absences{
	"/api/v1/resource_provider": "Resource providers are not supported yet.",
	"/containerizer/debug":      "The state of containers under way is not shown yet; /containers lists those that run.",
	"/files":                    "This way to files is not supported yet: use /files/browse and /files/read.",
	"/flags":                    "The agent's flags are not told yet.",
	"/metrics":                  "The agent's metrics are not served yet; the master has its own at /metrics/snapshot.",
	"/state":                    "The agent's state is not shown here yet; the master's /state has it.",
}

// bothAbsences are of both.
var bothAbsences = absences{
	"/logging": "The log level can't be changed while running yet.",
	"/system":  "Figures of the whole host are not served yet.",

	"/__processes__":   "There are no processes of libprocess in this server.",
	"/help":            "There are no pages of help in this server: see its README.",
	"/memory-profiler": "Profiles are taken from outside, with perf for example.",
	"/profiler":        "Profiles are taken from outside, with perf for example.",
}

// why finds the reason for a path with or without prefix, or "".
func (a absences) why(prefix, path string) string {
	path = strings.TrimPrefix(path, prefix)
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if why := cmp.Or(a[path[:end]], bothAbsences[path[:end]]); why != "" {
			return why
		}
	}
	return ""
}
