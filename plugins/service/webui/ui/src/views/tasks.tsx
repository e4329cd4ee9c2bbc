import { useMemo, useState } from "preact/hooks";
import { Id, Name, TaskLink, TaskState, Use } from "../parts";
import { useCluster, useUsage } from "../poll";
import { to } from "../route";
import { Table, type Column } from "../table";
import { addressOf, ago, hasEnded, keyOf, megabytes, number, scalar, stateName, type Task } from "../wire";

const choices: Record<string, (t: Task) => boolean> = {
  "not ended": (t) => !hasEnded(t),
  ended: hasEnded,
  all: () => true,
};

const updated = (t: Task) => (t.statuses?.at(-1)?.timestamp ?? 0) * 1000;

/** The tasks, or only some of them. */
export function Tasks({ filter, only }: { filter: string; only?: (t: Task) => boolean }) {
  const cluster = useCluster();
  const usage = useUsage();
  const [choice, setChoice] = useState(filter ? "all" : "not ended");
  // Only what happens to tasks orders them anew: rows that jump whenever something is measured can't be read.
  const rows = useMemo(
    () => [...cluster.tasks.values()].filter((t) => (!only || only(t)) && choices[choice]?.(t)),
    [cluster.version, choice],
  );
  const framework = (t: Task) => cluster.frameworks.get(t.framework_id.value)?.framework_info.name ?? cluster.completed.get(t.framework_id.value)?.framework_info.name ?? "";
  const agent = (t: Task) => ((a) => (a ? addressOf(a) : ""))(cluster.agents.get(t.agent_id.value));
  const used = (t: Task) => (hasEnded(t) ? undefined : usage.of(t));
  const memory = (t: Task) => ((m) => (m === undefined ? undefined : m / (1 << 20)))(used(t)?.memory);
  const columns: Column<Task>[] = [
    { title: "Task", value: (t) => t.name, cell: (t) => <TaskLink task={t} /> },
    { title: "State", value: (t) => stateName(t.state), cell: (t) => <TaskState state={t.state} /> },
    { title: "CPUs", value: (t) => used(t)?.cpus ?? 0, cell: (t) => <Use promised={scalar(t.resources, "cpus")} measured={used(t)?.cpus} show={(n) => number(n, 2)} /> },
    { title: "Memory", value: (t) => used(t)?.memory ?? 0, cell: (t) => <Use promised={scalar(t.resources, "mem")} measured={memory(t)} show={megabytes} /> },
    { title: "Framework", value: (t) => `${framework(t)} ${t.framework_id.value}`, cell: (t) => <Name href={to("frameworks", t.framework_id.value)}>{framework(t) || t.framework_id.value}</Name> },
    { title: "Agent", value: (t) => `${agent(t)} ${t.agent_id.value}`, cell: (t) => (agent(t) ? <Name href={to("agents", t.agent_id.value)}>{agent(t)}</Name> : <Id>{t.agent_id.value}</Id>) },
    { title: "Changed", value: (t) => -updated(t), cell: (t) => ago(updated(t)), numeric: true },
    { title: "Id", value: (t) => t.task_id.value, cell: (t) => <Id>{t.task_id.value}</Id> },
  ];
  return (
    <Table what="tasks" rows={rows} columns={columns} id={keyOf} filter={filter} sort={7}>
      <label>
        Show{" "}
        <select value={choice} onChange={(e) => setChoice(e.currentTarget.value)}>
          {Object.keys(choices).map((c) => <option key={c} value={c}>{c}</option>)}
        </select>
      </label>
    </Table>
  );
}
