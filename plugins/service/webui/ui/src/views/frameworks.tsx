import { Badge, Elsewhere, Facts, Id, Name } from "../parts";
import { useCluster, useRefresh } from "../poll";
import { to } from "../route";
import { Table, type Column } from "../table";
import { ago, hasEnded, megabytes, millis, number, scalar, type Framework } from "../wire";
import { Tasks } from "./tasks";

const idOf = (f: Framework) => f.framework_info.id?.value ?? "";
const roles = (f: Framework) => (f.framework_info.roles?.length ? f.framework_info.roles : [f.framework_info.role ?? "*"]).join(", ");

function state(f: Framework, completed: boolean): [string, string] {
  if (completed) return ["calm", "ended"];
  if (f.recovered && !f.connected) return ["busy", "expected back"];
  return f.connected ? (f.active ? ["good", "active"] : ["busy", "inactive"]) : ["bad", "disconnected"];
}

export function Frameworks({ filter }: { filter: string }) {
  const cluster = useCluster();
  useRefresh();
  const tasks = new Map<string, number>();
  for (const t of cluster.tasks.values()) {
    if (!hasEnded(t)) tasks.set(t.framework_id.value, (tasks.get(t.framework_id.value) ?? 0) + 1);
  }
  const rows = [...cluster.frameworks.values(), ...cluster.completed.values()];
  const stateOf = (f: Framework) => state(f, cluster.completed.get(idOf(f)) === f);
  const columns: Column<Framework>[] = [
    { title: "Framework", value: (f) => f.framework_info.name, cell: (f) => <Name href={to("frameworks", idOf(f))}>{f.framework_info.name}</Name> },
    { title: "State", value: (f) => stateOf(f)[1], cell: (f) => <Badge tone={stateOf(f)[0]}>{stateOf(f)[1]}</Badge> },
    { title: "Tasks", value: (f) => tasks.get(idOf(f)) ?? 0, numeric: true },
    { title: "CPUs", value: (f) => scalar(f.allocated_resources, "cpus"), cell: (f) => number(scalar(f.allocated_resources, "cpus")), numeric: true },
    { title: "Memory", value: (f) => scalar(f.allocated_resources, "mem"), cell: (f) => megabytes(scalar(f.allocated_resources, "mem")), numeric: true },
    { title: "Offers", value: (f) => f.offers?.length ?? 0, numeric: true },
    { title: "Roles", value: roles, cell: (f) => <bdi>{roles(f)}</bdi> },
    { title: "Principal", value: (f) => f.framework_info.principal ?? "", cell: (f) => <bdi>{f.framework_info.principal ?? ""}</bdi> },
    { title: "Since", value: (f) => -millis(f.registered_time), cell: (f) => ago(millis(f.registered_time)), numeric: true },
    { title: "Id", value: idOf, cell: (f) => <Id>{idOf(f)}</Id> },
  ];
  return <Table what="frameworks" rows={rows} columns={columns} id={idOf} filter={filter} sort={9} />;
}

export function FrameworkPage({ id }: { id: string }) {
  const cluster = useCluster();
  useRefresh();
  const f = cluster.frameworks.get(id) ?? cluster.completed.get(id);
  if (!f) return <p class="empty">The master knows no such framework.</p>;
  const [tone, text] = state(f, !cluster.frameworks.has(id));
  return (
    <>
      <Facts rows={[
        ["State", <Badge tone={tone}>{text}</Badge>],
        ["Promised to it", `${number(scalar(f.allocated_resources, "cpus"))} CPUs, ${megabytes(scalar(f.allocated_resources, "mem"))}`],
        ["Offered to it", `${number(scalar(f.offered_resources, "cpus"))} CPUs, ${megabytes(scalar(f.offered_resources, "mem"))} in ${f.offers?.length ?? 0} offers`],
        ["Roles", <bdi>{roles(f)}</bdi>],
        ["Principal", f.framework_info.principal ? <bdi>{f.framework_info.principal}</bdi> : ""],
        ["Its page", f.framework_info.webui_url ? <Elsewhere url={f.framework_info.webui_url} /> : ""],
        ["Id", <code>{id}</code>],
      ]} />
      <h2>Tasks</h2>
      <Tasks filter="" only={(t) => t.framework_id.value === id} />
    </>
  );
}
