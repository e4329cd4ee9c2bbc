import { Badge, Name } from "../parts";
import { useJSON } from "../poll";
import { toFiltered } from "../route";
import { Table, type Column } from "../table";
import { megabytes, number } from "../wire";

interface App {
  id: string;
  cmd?: string | null;
  args?: string[] | null;
  cpus?: number;
  mem?: number;
  instances?: number;
  tasksRunning?: number;
  tasksStaged?: number;
  tasksHealthy?: number;
  tasksUnhealthy?: number;
  deployments?: unknown[];
  versionInfo?: { lastScalingAt?: string; lastConfigChangeAt?: string };
}

function state(a: App): [string, string] {
  if (a.deployments?.length) return ["busy", "deploying"];
  if ((a.tasksUnhealthy ?? 0) > 0) return ["bad", "unhealthy"];
  if (a.instances === 0) return ["calm", "suspended"];
  return (a.tasksRunning ?? 0) >= (a.instances ?? 0) ? ["good", "running"] : ["busy", "waiting"];
}

/** Marathon names the tasks of /a/b a_b.INSTANCE. */
const taskPrefix = (id: string) => id.replace(/^\//, "").replaceAll("/", "_") + ".";

const command = (a: App) => a.cmd ?? (a.args ?? []).join(" ");

export function Applications({ filter }: { filter: string }) {
  const { value, problem } = useJSON<{ apps: App[] }>("./data/applications", 2000);
  if (!value) return <p class="empty">{problem ?? "One moment…"}</p>;
  const columns: Column<App>[] = [
    { title: "Application", value: (a) => a.id, cell: (a) => <Name href={toFiltered("tasks", taskPrefix(a.id))}>{a.id}</Name> },
    { title: "State", value: (a) => state(a)[1], cell: (a) => <Badge tone={state(a)[0]}>{state(a)[1]}</Badge> },
    { title: "Running", value: (a) => a.tasksRunning ?? 0, cell: (a) => `${number(a.tasksRunning ?? 0)} of ${number(a.instances ?? 0)}`, numeric: true },
    { title: "Healthy", value: (a) => a.tasksHealthy ?? 0, numeric: true },
    { title: "CPUs each", value: (a) => a.cpus ?? 0, numeric: true },
    { title: "Memory each", value: (a) => a.mem ?? 0, cell: (a) => megabytes(a.mem ?? 0), numeric: true },
    { title: "Command", value: command, cell: (a) => <code class="command" title={command(a)}>{command(a)}</code> },
  ];
  return (
    <>
      {problem && <p class="warning">{problem}</p>}
      <Table what="applications" rows={value.apps} columns={columns} id={(a) => a.id} filter={filter} />
    </>
  );
}
