import { Badge } from "../parts";
import { useJSON } from "../poll";
import { Table, type Column } from "../table";
import { ago } from "../wire";

export interface Plugin {
  name: string;
  kind: string;
  state: string;
  pid: number;
  restarts: number;
  since: string;
  listen: string;
  message: string;
  digest: string;
}

const tone = (p: Plugin) => ({ running: "good", starting: "busy", backoff: "bad", stopped: "calm" })[p.state] ?? "bad";

export function Plugins({ filter }: { filter: string }) {
  const { value, problem } = useJSON<Plugin[]>("/gantry/v1/plugins", 3000);
  if (!value) return <p class="empty">{problem ?? "One moment…"}</p>;
  const columns: Column<Plugin>[] = [
    { title: "Plugin", value: (p) => p.name },
    { title: "Kind", value: (p) => p.kind },
    { title: "State", value: (p) => p.state, cell: (p) => <Badge tone={tone(p)}>{p.state}</Badge> },
    { title: "Since", value: (p) => -Date.parse(p.since), cell: (p) => ago(Date.parse(p.since)), numeric: true },
    { title: "Restarts", value: (p) => p.restarts, numeric: true },
    { title: "Listens", value: (p) => p.listen },
    { title: "Process", value: (p) => p.pid, cell: (p) => p.pid || "", numeric: true },
    { title: "Digest", value: (p) => p.digest, cell: (p) => <code title={p.digest}>{p.digest.slice(0, 12)}</code> },
    { title: "Last problem", value: (p) => p.message, cell: (p) => <bdi>{p.message}</bdi> },
  ];
  return (
    <>
      {problem && <p class="warning">{problem}</p>}
      <Table what="plugins" rows={value} columns={columns} id={(p) => p.name} filter={filter} />
    </>
  );
}
