import { Id, Name } from "../parts";
import { useCluster, useRefresh } from "../poll";
import { to } from "../route";
import { Table, type Column } from "../table";
import { addressOf, amount, megabytes, number, scalar, type Offer } from "../wire";

const others = (o: Offer) =>
  (o.resources ?? []).filter((r) => r.name !== "cpus" && r.name !== "mem" && r.name !== "disk").map((r) => `${r.name} ${amount(r)}`).join("; ");

export function Offers({ filter }: { filter: string }) {
  const cluster = useCluster();
  useRefresh();
  const rows = [...cluster.frameworks.values()].flatMap((f) => f.offers ?? []);
  const framework = (o: Offer) => cluster.frameworks.get(o.framework_id.value)?.framework_info.name ?? "";
  const agent = (o: Offer) => ((a) => (a ? addressOf(a) : o.hostname))(cluster.agents.get(o.agent_id.value));
  const role = (o: Offer) => o.allocation_info?.role ?? cluster.frameworks.get(o.framework_id.value)?.framework_info.role ?? "*";
  const columns: Column<Offer>[] = [
    { title: "To", value: framework, cell: (o) => <Name href={to("frameworks", o.framework_id.value)}>{framework(o)}</Name> },
    { title: "Of", value: agent, cell: (o) => <Name href={to("agents", o.agent_id.value)}>{agent(o)}</Name> },
    { title: "CPUs", value: (o) => scalar(o.resources, "cpus"), cell: (o) => number(scalar(o.resources, "cpus")), numeric: true },
    { title: "Memory", value: (o) => scalar(o.resources, "mem"), cell: (o) => megabytes(scalar(o.resources, "mem")), numeric: true },
    { title: "Disk", value: (o) => scalar(o.resources, "disk"), cell: (o) => megabytes(scalar(o.resources, "disk")), numeric: true },
    { title: "And", value: others },
    { title: "Role", value: role, cell: (o) => <bdi>{role(o)}</bdi> },
    { title: "Id", value: (o) => o.id.value, cell: (o) => <Id>{o.id.value}</Id> },
  ];
  return <Table what="offers" rows={rows} columns={columns} id={(o) => o.id.value} filter={filter} empty="No offers are out: frameworks have answered all, or want none." />;
}
