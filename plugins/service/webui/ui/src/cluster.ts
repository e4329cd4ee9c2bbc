// The cluster as the page knows it: the state that a subscription of the operator API begins with, kept up to date by
// the events that follow.

import { records } from "./recordio";
import { hasEnded, keyOf, taskKey, type Agent, type Event, type Framework, type State, type Status, type Task } from "./wire";

export interface Connection {
  state: "connecting" | "live" | "lost";
  /** Since when it is lost, and why. */
  since: number;
  why: string;
  /** When it is tried again. */
  retryAt: number;
}

/** One thing that happened, for the list of latest changes. */
export interface Change {
  at: number;
  task?: Task;
  text: string;
}

const maxChanges = 20;
const maxEnded = 20_000; // tasks that have ended; the oldest are forgotten beyond it
const maxStatuses = 50; // of a task
const firstPause = 500;
const longestPause = 10_000;
const redraw = 200; // at most so often, in milliseconds
const hiddenFor = 30_000; // then the stream is left: browsers allow six connections to a server

class Cluster {
  tasks = new Map<string, Task>();
  agents = new Map<string, Agent>();
  frameworks = new Map<string, Framework>();
  completed = new Map<string, Framework>();
  changes: Change[] = [];
  connection: Connection = { state: "connecting", since: 0, why: "", retryAt: 0 };
  /** Grows whenever something has changed. */
  version = 0;

  private listeners = new Set<() => void>();
  private pending = 0;
  private pause = firstPause;
  private retry = 0;
  private stream: AbortController | null = null;

  start(): void {
    let leaving = 0;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(leaving);
      if (document.hidden) leaving = window.setTimeout(() => this.stream?.abort(new Error("the page was hidden")), hiddenFor);
      else if (this.connection.state === "lost") this.connect();
    });
    this.connect();
  }

  listen(f: () => void): () => void {
    this.listeners.add(f);
    return () => this.listeners.delete(f);
  }

  /** Subscribes anew; what is shown stays until the new state is here. */
  connect(): void {
    clearTimeout(this.retry);
    this.stream?.abort();
    const stream = new AbortController();
    this.stream = stream;
    this.follow(stream).catch((e: unknown) => {
      if (this.stream === stream) this.lost(e instanceof Error ? e.message : String(e));
    });
  }

  private lost(why: string): void {
    const wait = this.pause * (0.5 + Math.random() / 2);
    this.pause = Math.min(2 * this.pause, longestPause);
    const since = this.connection.state === "lost" ? this.connection.since : Date.now();
    this.connection = { state: "lost", since, why, retryAt: Date.now() + wait };
    if (!document.hidden) this.retry = window.setTimeout(() => this.connect(), wait);
    this.changed();
  }

  private async follow(stream: AbortController): Promise<void> {
    let silent = 0;
    let patience = 45_000;
    const heard = () => {
      clearTimeout(silent);
      silent = window.setTimeout(() => stream.abort(new Error("the master is silent")), patience);
    };
    try {
      heard();
      const response = await fetch("/api/v1", {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: '{"type":"SUBSCRIBE"}',
        signal: stream.signal,
        redirect: "manual",
      });
      if (response.type === "opaqueredirect") location.reload(); // to the master that leads now, as any page of this one
      if (!response.ok || !response.body) throw new Error(`the master answers ${response.status}: ${(await response.text()).slice(0, 200)}`);
      for await (const record of records(response.body)) {
        const event = JSON.parse(record) as Event;
        if (event.type === "SUBSCRIBED") patience = 3000 * (event.subscribed.heartbeat_interval_seconds ?? 15);
        heard();
        this.apply(event);
      }
      throw new Error("the master ended the stream");
    } finally {
      clearTimeout(silent);
    }
  }

  private apply(e: Event): void {
    switch (e.type) {
      case "SUBSCRIBED":
        this.begin(e.subscribed.get_state ?? {});
        break;
      case "TASK_ADDED":
        this.tasks.set(keyOf(e.task_added.task), e.task_added.task);
        this.note(e.task_added.task, "launched");
        break;
      case "TASK_UPDATED":
        this.update(e.task_updated.framework_id.value, e.task_updated.status, e.task_updated.state);
        break;
      case "AGENT_ADDED":
        this.agents.set(e.agent_added.agent.agent_info.id.value, e.agent_added.agent);
        this.note(undefined, `agent ${e.agent_added.agent.agent_info.hostname} joined`);
        break;
      case "AGENT_REMOVED":
        this.note(undefined, `agent ${this.agents.get(e.agent_removed.agent_id.value)?.agent_info.hostname ?? ""} left`);
        this.agents.delete(e.agent_removed.agent_id.value);
        break;
      case "FRAMEWORK_ADDED":
      case "FRAMEWORK_UPDATED": {
        const f = e.type === "FRAMEWORK_ADDED" ? e.framework_added.framework : e.framework_updated.framework;
        this.frameworks.set(f.framework_info.id?.value ?? "", f);
        break;
      }
      case "FRAMEWORK_REMOVED": {
        const id = e.framework_removed.framework_info.id?.value ?? "";
        const f = this.frameworks.get(id);
        this.frameworks.delete(id);
        if (f) this.completed.set(id, { ...f, active: false, connected: false, offers: [] });
        break;
      }
      default: // a heartbeat, or what a later master tells
        return;
    }
    this.changed();
  }

  private begin(s: State): void {
    const { tasks, completed_tasks, unreachable_tasks } = s.get_tasks ?? {};
    this.tasks = new Map([completed_tasks, unreachable_tasks, tasks].flatMap((list) => (list ?? []).map((t) => [keyOf(t), t] as const)));
    this.completed = byId(s.get_frameworks?.completed_frameworks);
    this.frameworks = byId(s.get_frameworks?.frameworks);
    this.agents = new Map((s.get_agents?.agents ?? []).map((a) => [a.agent_info.id.value, a]));
    this.connection = { state: "live", since: Date.now(), why: "", retryAt: 0 };
    this.pause = firstPause;
    const latest = [...this.tasks.values()].flatMap((task) => {
      const last = task.statuses?.at(-1);
      return last?.timestamp ? [{ at: last.timestamp * 1000, task, text: last.state }] : [];
    });
    this.changes = latest.sort((a, b) => b.at - a.at).slice(0, maxChanges);
  }

  private update(framework: string, status: Status, state: string): void {
    const key = taskKey(framework, status.task_id.value);
    const before = this.tasks.get(key);
    if (!before) return;
    const known = before.statuses ?? [];
    const again = status.uuid && known.some((s) => s.uuid === status.uuid);
    const task = { ...before, state, statuses: again ? known : [...known, status].slice(-maxStatuses) };
    this.tasks.set(key, task);
    this.note(task, state);
    if (hasEnded(task)) this.forget();
  }

  /** Forgets the tasks that ended first, once there are far too many. */
  private forget(): void {
    if (this.tasks.size < 2 * maxEnded) return;
    let extra = [...this.tasks.values()].filter(hasEnded).length - maxEnded;
    for (const [key, task] of this.tasks) {
      if (extra <= 0) return;
      if (hasEnded(task)) {
        this.tasks.delete(key);
        extra--;
      }
    }
  }

  private note(task: Task | undefined, text: string): void {
    this.changes = [{ at: Date.now(), task, text }, ...this.changes].slice(0, maxChanges);
  }

  /** Asks for a task of which an event told less than the master knows. */
  async complete(framework: string, id: string): Promise<void> {
    const response = await fetch("./data/task?" + new URLSearchParams({ framework, task: id }));
    if (!response.ok) return;
    const task = (await response.json()) as Task;
    this.tasks.set(keyOf(task), task);
    this.changed();
  }

  /** What no event tells: offers, and whether agents and frameworks are connected. */
  async refresh(): Promise<void> {
    if (this.connection.state !== "live") return;
    const [agents, frameworks] = await Promise.all([operate("GET_AGENTS"), operate("GET_FRAMEWORKS")]);
    this.agents = new Map((agents.get_agents?.agents ?? []).map((a) => [a.agent_info.id.value, a]));
    this.frameworks = byId(frameworks.get_frameworks?.frameworks);
    this.changed();
  }

  private changed(): void {
    this.version++;
    if (this.pending) return;
    this.pending = window.setTimeout(() => {
      this.pending = 0;
      for (const f of this.listeners) f();
    }, redraw);
  }
}

const byId = (list?: Framework[]) => new Map((list ?? []).map((f) => [f.framework_info.id?.value ?? "", f]));

async function operate(type: string): Promise<State> {
  const response = await fetch("/api/v1", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ type }),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export const cluster = new Cluster();
