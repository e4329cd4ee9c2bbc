// Small parts that several views share.

import type { ComponentChildren } from "preact";
import { to } from "./route";
import { stateName, type Task } from "./wire";

/** Promised and measured use of a whole: two bars, one in the other. */
export function Bar({ total, promised, measured, label }: { total: number; promised?: number; measured?: number; label: string }) {
  const part = (n: number | undefined) => (total > 0 && n !== undefined ? Math.min(100, (100 * n) / total) : 0);
  return (
    <svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={label}>
      <rect class="whole" width="100" height="8" />
      <rect class="promised" width={part(promised)} height="8" />
      <rect class={measured !== undefined && promised !== undefined && measured > promised ? "measured over" : "measured"} width={part(measured)} height="8" />
    </svg>
  );
}

/** Measured of promised, as text above a bar. */
export function Use({ promised, measured, show }: { promised: number; measured?: number; show: (n: number) => string }) {
  const known = measured === undefined ? "–" : show(measured);
  return (
    <span class="use">
      <span>{`${known} of ${show(promised)}`}</span>
      <Bar total={promised} measured={measured} label={`${known} of ${show(promised)} in use`} />
    </span>
  );
}

const tone = (state: string): string =>
  ({ TASK_RUNNING: "good", TASK_FINISHED: "calm", TASK_KILLED: "calm", TASK_STAGING: "busy", TASK_STARTING: "busy", TASK_KILLING: "busy" })[state] ?? "bad";

export const Badge = ({ tone, children }: { tone: string; children: ComponentChildren }) => <span class={`badge ${tone}`}>{children}</span>;

export const TaskState = ({ state }: { state: string }) => <Badge tone={tone(state)}>{stateName(state)}</Badge>;

/** A name that others chose: whatever is in it, it stays in its own box and reads in its own direction. */
export const Name = ({ children, href }: { children: string; href?: string }) => {
  const text = <bdi class="name">{children || "(no name)"}</bdi>;
  return href ? <a href={href}>{text}</a> : text;
};

export const TaskLink = ({ task }: { task: Task }) => <Name href={to("tasks", task.framework_id.value, task.task_id.value)}>{task.name}</Name>;

/** An id that is too long to be read: its end, and the whole in a hint. */
export const Id = ({ children }: { children: string }) => (
  <code title={children}>{children.length > 22 ? "…" + children.slice(-18) : children}</code>
);

/** A link to where others say their page is, if that is what it looks like; otherwise the text. */
export function Elsewhere({ url }: { url: string }) {
  let safe = false;
  try {
    safe = ["http:", "https:"].includes(new URL(url).protocol);
  } catch {
    // it is no address
  }
  return safe ? <a href={url} target="_blank" rel="noopener noreferrer">{url}</a> : <bdi>{url}</bdi>;
}

export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows.filter(([, v]) => v !== undefined && v !== "").map(([k, v]) => (
        <div key={k}>
          <dt>{k}</dt>
          <dd>{v}</dd>
        </div>
      ))}
    </dl>
  );
}
