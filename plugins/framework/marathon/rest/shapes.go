package rest

import (
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// appShape is a definition as clients read it, with the members that never vary here.
type appShape struct {
	definition.App
	Executor     string         `json:"executor"`
	GPUs         int            `json:"gpus"`
	Dependencies []string       `json:"dependencies"`
	Networks     []networkShape `json:"networks"`
	Role         string         `json:"role"`
}

type networkShape struct {
	Mode string `json:"mode"`
}

func shapeApp(a definition.App, role string) appShape {
	return appShape{App: a, Dependencies: []string{}, Networks: []networkShape{{Mode: "host"}}, Role: role}
}

// infoShape is a definition with what runs of it.
type infoShape struct {
	appShape
	TasksStaged     int               `json:"tasksStaged"`
	TasksRunning    int               `json:"tasksRunning"`
	TasksHealthy    int               `json:"tasksHealthy"`
	TasksUnhealthy  int               `json:"tasksUnhealthy"`
	Deployments     []identified      `json:"deployments"`
	Tasks           *[]taskShape      `json:"tasks,omitempty"`
	LastTaskFailure *apps.TaskFailure `json:"lastTaskFailure,omitempty"`
}

// embed says what an answer shows beside counts and deployments.
type embed struct{ tasks, lastTaskFailure bool }

func shapeInfo(i apps.Info, role string, e embed) infoShape {
	shape := infoShape{
		appShape:    shapeApp(i.App, role),
		TasksStaged: i.Staged, TasksRunning: i.Running, TasksHealthy: i.Healthy, TasksUnhealthy: i.Unhealthy,
		Deployments: identify(i.Deployments),
	}
	if e.tasks {
		tasks := shapeTasks(i.Tasks)
		shape.Tasks = &tasks
	}
	if e.lastTaskFailure {
		shape.LastTaskFailure = i.LastFailure
	}
	return shape
}

type taskShape struct {
	ID           string         `json:"id"`
	AppID        string         `json:"appId"`
	Host         string         `json:"host"`
	IPAddresses  []addressShape `json:"ipAddresses"`
	Ports        []int          `json:"ports"`
	ServicePorts []int          `json:"servicePorts"`
	SlaveID      string         `json:"slaveId"`
	State        string         `json:"state"`
	StagedAt     string         `json:"stagedAt"`
	StartedAt    string         `json:"startedAt,omitempty"`
	Version      string         `json:"version"`
	LocalVolumes []string       `json:"localVolumes"`
	Region       string         `json:"region,omitempty"`
	Zone         string         `json:"zone,omitempty"`
	Role         string         `json:"role"`
	Health       []healthShape  `json:"healthCheckResults"`
}

type addressShape struct {
	IPAddress string `json:"ipAddress"`
	Protocol  string `json:"protocol"`
}

type healthShape struct {
	Alive               bool   `json:"alive"`
	ConsecutiveFailures int    `json:"consecutiveFailures"`
	FirstSuccess        string `json:"firstSuccess,omitempty"`
	LastSuccess         string `json:"lastSuccess,omitempty"`
	LastFailure         string `json:"lastFailure,omitempty"`
	LastFailureCause    string `json:"lastFailureCause,omitempty"`
	InstanceID          string `json:"instanceId"`
}

// stamp writes a time, and nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(definition.VersionLayout)
}

func shapeTasks(tasks []apps.Task) []taskShape {
	list := make([]taskShape, len(tasks))
	for i, t := range tasks {
		list[i] = shapeTask(t)
	}
	return list
}

func shapeTask(t apps.Task) taskShape {
	shape := taskShape{
		ID: t.ID, AppID: t.App, Host: t.Host, IPAddresses: []addressShape{},
		Ports: listed(t.Ports), ServicePorts: listed(t.ServicePorts),
		SlaveID: t.Agent, State: t.State, StagedAt: stamp(t.Staged), StartedAt: stamp(t.Started), Version: t.Version,
		LocalVolumes: []string{}, Region: t.Region, Zone: t.Zone, Role: t.Role, Health: []healthShape{},
	}
	for _, address := range t.Addresses {
		shape.IPAddresses = append(shape.IPAddresses, addressShape{IPAddress: address, Protocol: "IPv4"})
	}
	for _, h := range t.Health {
		shape.Health = append(shape.Health, healthShape{
			Alive: h.Alive, ConsecutiveFailures: h.Failures, FirstSuccess: stamp(h.FirstSuccess),
			LastSuccess: stamp(h.LastSuccess), LastFailure: stamp(h.LastFailure), LastFailureCause: h.Cause, InstanceID: t.ID,
		})
	}
	return shape
}

// listed is never null in JSON.
func listed(ports []int) []int {
	if ports == nil {
		return []int{}
	}
	return ports
}

// resultShape answers a change.
type resultShape struct {
	Version      string `json:"version"`
	DeploymentID string `json:"deploymentId"`
}

type deploymentShape struct {
	ID             string        `json:"id"`
	Version        string        `json:"version"`
	AffectedApps   []string      `json:"affectedApps"`
	AffectedPods   []string      `json:"affectedPods"`
	Steps          []stepShape   `json:"steps"`
	CurrentActions []actionShape `json:"currentActions"`
	CurrentStep    int           `json:"currentStep"`
	TotalSteps     int           `json:"totalSteps"`
}

type stepShape struct {
	Actions []apps.Action `json:"actions"`
}

type actionShape struct {
	apps.Action
	ReadinessCheckResults []string `json:"readinessCheckResults"`
}

func shapeDeployment(d apps.Deployment) deploymentShape {
	shape := deploymentShape{
		ID: d.ID, Version: d.Version, AffectedApps: []string{}, AffectedPods: []string{},
		Steps: []stepShape{{Actions: d.Actions}}, CurrentActions: []actionShape{}, CurrentStep: 1, TotalSteps: 1,
	}
	for _, a := range d.Actions {
		shape.AffectedApps = append(shape.AffectedApps, a.App)
		shape.CurrentActions = append(shape.CurrentActions, actionShape{Action: a, ReadinessCheckResults: []string{}})
	}
	return shape
}

type queueShape struct {
	App     appShape       `json:"app"`
	Count   int            `json:"count"`
	Role    string         `json:"role"`
	Delay   delayShape     `json:"delay"`
	Since   string         `json:"since"`
	Summary processedShape `json:"processedOffersSummary"`
	// Why is ours: the reason for the wait as a sentence.
	Why string `json:"why"`
}

type delayShape struct {
	TimeLeftSeconds int  `json:"timeLeftSeconds"`
	Overdue         bool `json:"overdue"`
}

type processedShape struct {
	Processed         int            `json:"processedOffersCount"`
	Unused            int            `json:"unusedOffersCount"`
	LastUnused        string         `json:"lastUnusedOfferAt,omitempty"`
	LastUsed          string         `json:"lastUsedOfferAt,omitempty"`
	RejectLast        []refusalShape `json:"rejectSummaryLastOffers"`
	RejectLaunchTries []refusalShape `json:"rejectSummaryLaunchAttempt"`
}

type refusalShape struct {
	Reason    string `json:"reason"`
	Declined  int    `json:"declined"`
	Processed int    `json:"processed"`
}

func shapeWaiting(w apps.Waiting) queueShape {
	return queueShape{
		App: shapeApp(w.App, w.Role), Count: w.Count, Role: w.Role,
		Delay: delayShape{TimeLeftSeconds: int((w.Delay + time.Second - 1) / time.Second), Overdue: w.Delay == 0},
		Since: stamp(w.Since),
		Summary: processedShape{
			Processed: w.Processed, Unused: w.Unused, LastUnused: stamp(w.LastUnused), LastUsed: stamp(w.LastUsed),
			RejectLast:        funnel(w.ProcessedLast, w.RejectedLast),
			RejectLaunchTries: funnel(w.Processed, w.Rejected),
		},
		Why: w.Why,
	}
}

// funnel shows, in the order in which reasons are looked at, how many offers got that far
// and how many no further.
func funnel(processed int, rejected map[string]int) []refusalShape {
	list := make([]refusalShape, len(apps.Reasons))
	for i, reason := range apps.Reasons {
		list[i] = refusalShape{Reason: reason, Declined: rejected[reason], Processed: processed}
		processed -= rejected[reason]
	}
	return list
}
