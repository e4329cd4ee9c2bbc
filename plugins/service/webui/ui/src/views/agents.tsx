import { Badge, Bar, Facts, Id, Name } from "../parts";
import { useCluster, useRefresh, useUsage, type Used } from "../poll";
import { to, toFiltered } from "../route";
import { Table, type Column } from "../table";
import { addressOf, ago, amount, attribute, hasEnded, megabytes, millis, number, scalar, type Agent, type Resource } from "../wire";
import { Tasks } from "./tasks";

const idOf = (a: Agent) => a.agent_info.id.value;
const attributes = (a: Agent) => (a.agent_info.attributes ?? []).map(attribute);

const State = ({ agent }: { agent: Agent }) => (agent.active ? <Badge tone="good">active</Badge> : <Badge tone="bad">away</Badge>);

function Share({ agent, name, measured, show }: { agent: Agent; name: string; measured?: number; show: (n: number) => string }) {
  const total = scalar(agent.total_resources, name);
  const promised = scalar(agent.allocated_resources, name);
  const text = `${show(promised)} of ${show(total)}` + (measured === undefined ? "" : `, ${show(measured)} measured`);
  return (
    <span class="use" title={text}>
      <span>{`${show(promised)} of ${show(total)}`}</span>
      <Bar total={total} promised={promised} measured={measured} label={text} />
    </span>
  );
}

/** What the containers of each agent use together. */
function byAgent(all: Used[]): Map<string, { cpus: number; memory: number }> {
  const sums = new Map<string, { cpus: number; memory: number }>();
  for (const u of all) {
    const sum = sums.get(u.agent) ?? { cpus: 0, memory: 0 };
    sums.set(u.agent, { cpus: sum.cpus + (u.cpus ?? 0), memory: sum.memory + (u.memory ?? 0) / (1 << 20) });
  }
  return sums;
}

const cpus = (n: number) => number(n, 2);

export function Agents({ filter }: { filter: string }) {
  const cluster = useCluster();
  const used = byAgent(useUsage().all);
  useRefresh();
  const tasks = new Map<string, number>();
  for (const t of cluster.tasks.values()) {
    if (!hasEnded(t)) tasks.set(t.agent_id.value, (tasks.get(t.agent_id.value) ?? 0) + 1);
  }
  const columns: Column<Agent>[] = [
    { title: "Address", value: addressOf, cell: (a) => <Name href={to("agents", idOf(a))}>{addressOf(a)}</Name> },
    { title: "State", value: (a) => (a.active ? "active" : "away"), cell: (a) => <State agent={a} /> },
    { title: "CPUs", value: (a) => scalar(a.total_resources, "cpus"), cell: (a) => <Share agent={a} name="cpus" measured={used.get(idOf(a))?.cpus} show={cpus} /> },
    { title: "Memory", value: (a) => scalar(a.total_resources, "mem"), cell: (a) => <Share agent={a} name="mem" measured={used.get(idOf(a))?.memory} show={megabytes} /> },
    { title: "Disk", value: (a) => scalar(a.total_resources, "disk"), cell: (a) => <Share agent={a} name="disk" show={megabytes} /> },
    { title: "Tasks", value: (a) => tasks.get(idOf(a)) ?? 0, numeric: true },
    { title: "Attributes", value: (a) => attributes(a).join(" "), cell: (a) => attributes(a).map((t) => <bdi key={t} class="tag">{t}</bdi>) },
    { title: "Since", value: (a) => -millis(a.registered_time), cell: (a) => ago(millis(a.registered_time)), numeric: true },
    { title: "Id", value: idOf, cell: (a) => <Id>{idOf(a)}</Id> },
  ];
  return <Table what="agents" rows={[...cluster.agents.values()]} columns={columns} id={idOf} filter={filter} />;
}

/** Resources of one name and role, in each of four columns. */
interface Line {
  name: string;
  of: (list?: Resource[]) => string;
}

function lines(a: Agent): Line[] {
  const names = [...new Set((a.total_resources ?? []).map((r) => r.name))].sort();
  return names.map((name) => ({
    name,
    of: (list) => {
      const some = (list ?? []).filter((r) => r.name === name);
      return some[0]?.type === "SCALAR" ? number(scalar(some, name)) : some.map(amount).join(", ") || "–";
    },
  }));
}

/** What is left: of scalars only, for the free ranges are in the offers. */
function free(a: Agent, name: string): string {
  if (!(a.total_resources ?? []).some((r) => r.name === name && r.type === "SCALAR")) return "";
  return number(scalar(a.total_resources, name) - scalar(a.allocated_resources, name) - scalar(a.offered_resources, name));
}

export function AgentPage({ id }: { id: string }) {
  const cluster = useCluster();
  useRefresh();
  const a = cluster.agents.get(id);
  if (!a) return <p class="empty">{`The master knows no agent ${id} now. It may have left; its tasks are in the list of tasks.`} <a href={toFiltered("tasks", id)}>Its tasks</a></p>;
  return (
    <>
      <Facts rows={[
        ["State", <State agent={a} />],
        ["Id", <code>{id}</code>],
        ["Version", a.version],
        ["Attributes", attributes(a).length ? attributes(a).map((t) => <bdi key={t} class="tag">{t}</bdi>) : ""],
        ["Registered", millis(a.registered_time) ? `${ago(millis(a.registered_time))} ago` : ""],
      ]} />
      <h2>Resources</h2>
      <div class="scroll">
        <table class="narrow">
          <thead><tr><th>Resource</th><th class="numeric">In all</th><th class="numeric">Promised to tasks</th><th class="numeric">Offered now</th><th class="numeric">Free</th></tr></thead>
          <tbody>
            {lines(a).map(({ name, of }) => (
              <tr key={name}>
                <td>{name}</td>
                <td class="numeric">{of(a.total_resources)}</td>
                <td class="numeric">{of(a.allocated_resources)}</td>
                <td class="numeric">{of(a.offered_resources)}</td>
                <td class="numeric">{free(a, name)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <h2>Tasks</h2>
      <Tasks filter="" only={(t) => t.agent_id.value === id} />
    </>
  );
}
