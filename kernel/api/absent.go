package api

import "strings"

// absent are endpoints that clients of masters and agents know and that are not served, each
// with the reason; what is below one is absent with it. What is served takes precedence.
var absent = map[string]string{
	"/api/v1/resource_provider": "Resource providers are not supported yet.",
	"/containerizer/debug":      "The state of containers under way is not shown yet; /containers lists those that run.",
	"/files":                    "This way to files is not supported yet; an agent serves /files/browse and /files/read for its sandboxes.",
	"/flags":                    "Flags are not told here yet.",
	"/logging":                  "The log level can't be changed while running yet.",
	"/metrics":                  "Metrics are not served here yet; the master has them at /metrics/snapshot.",
	"/quota":                    "Quota is not supported yet.",
	"/registrar(1)":             "The registry is not shown over HTTP yet; gantry mend reads it.",
	"/state":                    "The agent's state is not shown here yet; the master's /state has it.",
	"/system":                   "Figures of the whole host are not served yet.",

	"/__processes__":   "There are no processes of libprocess in this server.",
	"/help":            "There are no pages of help in this server: see its README.",
	"/memory-profiler": "Profiles are taken from outside, with perf for example.",
	"/profiler":        "Profiles are taken from outside, with perf for example.",
}

// whyAbsent finds the reason for a path with or without prefix, or "".
func whyAbsent(prefix, path string) string {
	path = strings.TrimPrefix(path, prefix)
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if why := absent[path[:end]]; why != "" {
			return why
		}
	}
	return ""
}
