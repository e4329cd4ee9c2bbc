import { Badge, Name } from "../parts";
import { useJSON } from "../poll";
import { toFiltered } from "../route";
import { Table, type Column } from "../table";
import { ago } from "../wire";

interface Job {
  name: string;
  command?: string;
  schedule?: string;
  scheduleTimeZone?: string;
  parents?: string[];
  disabled?: boolean;
  successCount?: number;
  errorCount?: number;
  lastSuccess?: string;
  lastError?: string;
}

function state(j: Job): [string, string] {
  if (j.disabled) return ["calm", "disabled"];
  const success = Date.parse(j.lastSuccess ?? "") || 0;
  const error = Date.parse(j.lastError ?? "") || 0;
  if (!success && !error) return ["busy", "not run yet"];
  return success >= error ? ["good", "succeeded"] : ["bad", "failed"];
}

/** What Chronos names the tasks of a job. */
const runs = (j: Job) => `ChronosTask:${j.name}`;

const when = (j: Job) => (j.parents?.length ? `after ${j.parents.join(", ")}` : `${j.schedule ?? ""} ${j.scheduleTimeZone ?? ""}`.trim());

const last = (j: Job) => Math.max(Date.parse(j.lastSuccess ?? "") || 0, Date.parse(j.lastError ?? "") || 0);

export function Jobs({ filter }: { filter: string }) {
  const { value, problem } = useJSON<Job[]>("./data/jobs", 3000);
  if (!value) return <p class="empty">{problem ? `Jobs are not running here. ${problem}` : "One moment…"}</p>;
  const columns: Column<Job>[] = [
    { title: "Job", value: (j) => j.name, cell: (j) => <Name href={toFiltered("tasks", runs(j))}>{j.name}</Name> },
    { title: "State", value: (j) => state(j)[1], cell: (j) => <Badge tone={state(j)[0]}>{state(j)[1]}</Badge> },
    { title: "When", value: when, cell: (j) => <bdi>{when(j)}</bdi> },
    { title: "Last run", value: (j) => -last(j), cell: (j) => (last(j) ? `${ago(last(j))} ago` : ""), numeric: true },
    { title: "Succeeded", value: (j) => j.successCount ?? 0, numeric: true },
    { title: "Failed", value: (j) => j.errorCount ?? 0, numeric: true },
    { title: "Command", value: (j) => j.command ?? "", cell: (j) => <code class="command" title={j.command}>{j.command ?? ""}</code> },
  ];
  return (
    <>
      {problem && <p class="warning">{problem}</p>}
      <Table what="jobs" rows={value} columns={columns} id={(j) => j.name} filter={filter} />
    </>
  );
}
