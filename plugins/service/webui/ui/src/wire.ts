// The parts of the v1 operator API's messages that the page shows, as their JSON has them.

export interface Value {
  value: string;
}

export interface Resource {
  name: string;
  type: "SCALAR" | "RANGES" | "SET";
  scalar?: { value: number };
  ranges?: { range?: { begin: number; end: number }[] };
  set?: { item?: string[] };
  role?: string;
  allocation_info?: { role?: string };
}

export interface Attribute {
  name: string;
  type: string;
  scalar?: { value: number };
  ranges?: { range?: { begin: number; end: number }[] };
  set?: { item?: string[] };
  text?: { value: string };
}

export interface Status {
  task_id: Value;
  state: string;
  message?: string;
  source?: string;
  reason?: string;
  timestamp?: number;
  uuid?: string;
  healthy?: boolean;
}

export interface Task {
  name: string;
  task_id: Value;
  framework_id: Value;
  executor_id?: Value;
  agent_id: Value;
  state: string;
  resources?: Resource[];
  statuses?: Status[];
  labels?: { labels?: { key: string; value?: string }[] };
  user?: string;
}

export interface Agent {
  agent_info: { id: Value; hostname: string; port?: number; attributes?: Attribute[] };
  active: boolean;
  version?: string;
  registered_time?: Time;
  reregistered_time?: Time;
  total_resources?: Resource[];
  allocated_resources?: Resource[];
  offered_resources?: Resource[];
}

export interface Time {
  nanoseconds: number | string;
}

export interface Offer {
  id: Value;
  framework_id: Value;
  agent_id: Value;
  hostname: string;
  resources?: Resource[];
  allocation_info?: { role?: string };
}

export interface FrameworkInfo {
  id?: Value;
  name: string;
  user?: string;
  principal?: string;
  role?: string;
  roles?: string[];
  webui_url?: string;
}

export interface Framework {
  framework_info: FrameworkInfo;
  active: boolean;
  connected: boolean;
  recovered?: boolean;
  registered_time?: Time;
  allocated_resources?: Resource[];
  offered_resources?: Resource[];
  offers?: Offer[];
}

export interface State {
  get_tasks?: { tasks?: Task[]; completed_tasks?: Task[]; unreachable_tasks?: Task[] };
  get_frameworks?: { frameworks?: Framework[]; completed_frameworks?: Framework[] };
  get_agents?: { agents?: Agent[] };
}

export type Event =
  | { type: "SUBSCRIBED"; subscribed: { get_state?: State; heartbeat_interval_seconds?: number } }
  | { type: "HEARTBEAT" }
  | { type: "TASK_ADDED"; task_added: { task: Task } }
  | { type: "TASK_UPDATED"; task_updated: { framework_id: Value; status: Status; state: string } }
  | { type: "AGENT_ADDED"; agent_added: { agent: Agent } }
  | { type: "AGENT_REMOVED"; agent_removed: { agent_id: Value } }
  | { type: "FRAMEWORK_ADDED"; framework_added: { framework: Framework } }
  | { type: "FRAMEWORK_UPDATED"; framework_updated: { framework: Framework } }
  | { type: "FRAMEWORK_REMOVED"; framework_removed: { framework_info: FrameworkInfo } };

const ended = new Set([
  "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR",
]);

export const hasEnded = (t: Task): boolean => ended.has(t.state);

/** Whether the status that belongs to the state is still to come: events tell the state first, and that status never. */
export const lacksStatus = (t: Task): boolean => {
  const last = t.statuses?.at(-1)?.state;
  return last !== t.state && (last !== undefined || hasEnded(t));
};

/** Task states as people read them: "running". */
export const stateName = (state: string): string => state.replace(/^TASK_/, "").toLowerCase().replaceAll("_", " ");

export const executorOf = (t: Task): string => t.executor_id?.value || t.task_id.value;

/** A task's name in the whole cluster; ids have no slash. */
export const taskKey = (framework: string, task: string): string => framework + "/" + task;

export const keyOf = (t: Task): string => taskKey(t.framework_id.value, t.task_id.value);

export const millis = (t?: Time): number => (t ? Number(t.nanoseconds) / 1e6 : 0);

export const addressOf = (a: Agent): string => `${a.agent_info.hostname}:${a.agent_info.port ?? 5051}`;

/** Sums the scalars of one name. */
export const scalar = (resources: Resource[] | undefined, name: string): number =>
  Math.round((resources ?? []).reduce((sum, r) => sum + (r.name === name ? (r.scalar?.value ?? 0) : 0), 0) * 1000) / 1000;

const rangeText = (ranges?: { range?: { begin: number; end: number }[] }): string =>
  (ranges?.range ?? []).map((r) => (r.begin === r.end ? `${r.begin}` : `${r.begin}-${r.end}`)).join(", ");

/** A resource's amount as text, whatever its type. */
export function amount(r: Resource): string {
  switch (r.type) {
    case "SCALAR":
      return number(r.scalar?.value ?? 0);
    case "RANGES":
      return rangeText(r.ranges);
    default:
      return (r.set?.item ?? []).join(", ");
  }
}

export function attribute(a: Attribute): string {
  const value = a.text?.value ?? (a.scalar ? number(a.scalar.value) : (a.set?.item?.join(", ") ?? rangeText(a.ranges)));
  return `${a.name}: ${value}`;
}

export const number = (n: number, digits = 3): string => n.toLocaleString("en", { maximumFractionDigits: digits });

/** Megabytes of 2^20, in the largest unit that fits. */
export function megabytes(mb: number): string {
  for (const [unit, size] of [["TB", 1 << 20], ["GB", 1 << 10]] as const) {
    if (mb >= size) return `${number(mb / size, 1)} ${unit}`;
  }
  return `${number(mb, mb < 10 ? 1 : 0)} MB`;
}

export function bytes(n: number): string {
  return n < 1024 ? `${n} B` : n < 1 << 20 ? `${number(n / 1024, 1)} kB` : megabytes(n / (1 << 20));
}

export function ago(at: number, now = Date.now()): string {
  if (!at) return "";
  const s = Math.max(0, (now - at) / 1000);
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}
