package rules

import (
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func healthCheck(h *mesos.HealthCheck) error {
	if h.Type == nil {
		return refuse("HealthCheck must specify 'type'")
	}
	switch h.GetType() {
	case mesos.HealthCheck_COMMAND:
		if h.Command == nil {
			return refuse("Expecting 'command' to be set for COMMAND health check")
		}
		if err := checkCommand(h.Command, "Command health check", "Health check"); err != nil {
			return err
		}
	case mesos.HealthCheck_HTTP:
		if h.Http == nil {
			return refuse("Expecting 'http' to be set for HTTP health check")
		}
		if s := h.GetHttp().Scheme; s != nil && *s != "http" && *s != "https" {
			return refuse("Unsupported HTTP health check scheme: '%s'", *s)
		}
		if err := checkPath(h.GetHttp().Path, "HTTP health check"); err != nil {
			return err
		}
	case mesos.HealthCheck_TCP:
		if h.Tcp == nil {
			return refuse("Expecting 'tcp' to be set for TCP health check")
		}
	default:
		return refuse("'%s' is not a valid health check type", h.GetType())
	}
	return times(
		seconds{"delay_seconds", h.GetDelaySeconds()},
		seconds{"grace_period_seconds", h.GetGracePeriodSeconds()},
		seconds{"interval_seconds", h.GetIntervalSeconds()},
		seconds{"timeout_seconds", h.GetTimeoutSeconds()},
	)
}

func check(c *mesos.CheckInfo) error {
	if c.Type == nil {
		return refuse("CheckInfo must specify 'type'")
	}
	switch c.GetType() {
	case mesos.CheckInfo_COMMAND:
		if c.Command == nil {
			return refuse("Expecting 'command' to be set for COMMAND check")
		}
		if err := checkCommand(c.GetCommand().GetCommand(), "Command check", "Check"); err != nil {
			return err
		}
	case mesos.CheckInfo_HTTP:
		if c.Http == nil {
			return refuse("Expecting 'http' to be set for HTTP check")
		}
		if err := checkPath(c.GetHttp().Path, "HTTP check"); err != nil {
			return err
		}
	case mesos.CheckInfo_TCP:
		if c.Tcp == nil {
			return refuse("Expecting 'tcp' to be set for TCP check")
		}
	default:
		return refuse("'%s' is not a valid check type", c.GetType())
	}
	return times(
		seconds{"delay_seconds", c.GetDelaySeconds()},
		seconds{"interval_seconds", c.GetIntervalSeconds()},
		seconds{"timeout_seconds", c.GetTimeoutSeconds()},
	)
}

func checkCommand(c *mesos.CommandInfo, what, whose string) error {
	if c.GetValue() == "" {
		if c.GetShell() {
			return refuse("%s must contain 'shell command'", what)
		}
		return refuse("%s must contain 'executable path'", what)
	}
	if err := command(c); err != nil {
		return refuse("%s's `CommandInfo` is invalid: %w", whose, err)
	}
	return nil
}

func checkPath(path *string, what string) error {
	if path != nil && !strings.HasPrefix(*path, "/") {
		return refuse("The path '%s' of %s must start with '/'", *path, what)
	}
	return nil
}

type seconds struct {
	field string
	value float64
}

// times refuses negative seconds, and what is no number.
func times(list ...seconds) error {
	for _, s := range list {
		if !(s.value >= 0) {
			return refuse("Expecting '%s' to be non-negative", s.field)
		}
	}
	return nil
}
