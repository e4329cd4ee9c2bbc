package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

const (
	hostileAtOnce = 16        // connections that attack at the same time
	hostileRounds = 3         // how often all of the corpus is sent
	hostileMemory = 192 << 20 // what the attack may add to the master's memory, in bytes: the room that requests have, and garbage
	keptOpen      = 128       // connections to plugins, and of honest clients, that may stay open for their next request
)

// attack is one request of the corpus, and what may come of it.
type attack struct {
	name    string // of the file and of the case
	targets []target
	dripAt  int    // from here on a byte at a time; the length of bytes if not at all
	hangUp  bool   // whether the client closes its side at the end
	bytes   []byte // $HOST and $PATH stand for those of the target
}

// target is an endpoint and the answers that are right: "400", "4xx", or "closed" for none.
type target struct {
	server, path string
	right        []string
}

// readAttacks reads a file of the corpus. A case is a line "== NAME", lines "SERVER PATH ANSWER|ANSWER", and the bytes to
// send: lines without their ends, in which \r, \n, \\ and \x00 are escapes, and «3 x» is x three times. "POST as TYPE"
// stands for a proper request whose body follows; "-- drip" sends what follows a byte at a time; "-- close" hangs up.
func readAttacks(t *testing.T, path string) []attack {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var attacks []attack
	file := strings.TrimSuffix(filepath.Base(path), ".txt")
	for _, part := range strings.Split("\n"+string(text), "\n== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		attacks = append(attacks, readAttack(t, file+": "+name, strings.Split(rest, "\n")))
	}
	return attacks
}

func readAttack(t *testing.T, name string, lines []string) attack {
	t.Helper()
	a := attack{name: name, dripAt: -1}
	for ; len(lines) > 0; lines = lines[1:] {
		server, answers, _ := strings.Cut(lines[0], " ")
		switch server {
		case "calls":
			a.targets = append(a.targets, targets(answers)...)
			a.targets = append(a.targets, target{"marathon", "/v2/apps", strings.Split(answers, "|")})
			continue
		case "wire":
			a.targets = append(a.targets, targets(answers)...)
			continue
		case "master", "agent", "marathon":
			path, answers, _ := strings.Cut(answers, " ")
			a.targets = slices.DeleteFunc(a.targets, func(t target) bool { return t.server == server && t.path == path })
			a.targets = append(a.targets, target{server, path, strings.Split(answers, "|")})
			continue
		}
		break
	}
	mediaType, proper := "", false
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "POST as "):
			mediaType, proper = string(expand(line[len("POST as "):])), true
		case line == "-- drip":
			a.dripAt = len(a.bytes)
		case line == "-- close":
			a.hangUp = true
		default:
			a.bytes = append(a.bytes, expand(line)...)
		}
	}
	if proper {
		head := fmt.Sprintf("POST $PATH HTTP/1.1\r\nHost: $HOST\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", mediaType, len(a.bytes))
		a.bytes = append([]byte(head), a.bytes...)
	}
	if a.dripAt < 0 {
		a.dripAt = len(a.bytes)
	}
	if len(a.targets) == 0 || len(a.bytes) == 0 {
		t.Fatalf("%s: a case without targets, or without bytes", name)
	}
	return a
}

func targets(answers string) []target {
	right := strings.Split(answers, "|")
	return []target{{"master", "/api/v1/scheduler", right}, {"master", "/api/v1", right}, {"agent", "/api/v1", right}}
}

var (
	repeats = regexp.MustCompile(`«(\d+) (.*?)»`)
	escapes = regexp.MustCompile(`\\(x[0-9a-f]{2}|[rn\\])`)
)

func expand(line string) []byte {
	whole := repeats.ReplaceAllStringFunc(line, func(match string) string {
		parts := repeats.FindStringSubmatch(match)
		n, _ := strconv.Atoi(parts[1]) // digits
		return strings.Repeat(parts[2], n)
	})
	return escapes.ReplaceAllFunc([]byte(whole), func(match []byte) []byte {
		switch match[1] {
		case 'r':
			return []byte{'\r'}
		case 'n':
			return []byte{'\n'}
		case '\\':
			return []byte{'\\'}
		}
		n, _ := strconv.ParseUint(string(match[2:]), 16, 8) // two hexadecimal digits
		return []byte{byte(n)}
	})
}

// send sends the attack and returns "closed", or the status and the rest of the answer.
func (a attack) send(address, path string) (answer string, rest []byte, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		return "", nil, err
	}
	replace := func(part []byte) []byte {
		return bytes.ReplaceAll(bytes.ReplaceAll(part, []byte("$HOST"), []byte(address)), []byte("$PATH"), []byte(path))
	}
	answered := make(chan struct{}) // no more to send
	go func() {
		// The server may have answered and gone before it has read all: no error of sending matters.
		_, _ = conn.Write(replace(a.bytes[:a.dripAt]))
		for _, b := range replace(a.bytes[a.dripAt:]) {
			select {
			case <-answered:
				return
			case <-time.After(100 * time.Millisecond):
			}
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
		if a.hangUp {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	defer close(answered)
	buffered := bufio.NewReader(conn)
	if _, err := buffered.Peek(1); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return "", nil, fmt.Errorf("neither answered nor closed: %w", err)
		}
		return "closed", nil, nil // reset, if it had not read all
	}
	resp, err := http.ReadResponse(buffered, nil)
	if err != nil {
		return "", nil, fmt.Errorf("the answer is not HTTP: %w", err)
	}
	defer resp.Body.Close()
	if injected := resp.Header.Get("X-Injected"); injected != "" {
		return "", nil, fmt.Errorf("the client has set a header of the answer: %q", injected)
	}
	rest, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && resp.StatusCode < 400 { // a refusal may be cut short by the reset that follows it
		return "", nil, err
	}
	return strconv.Itoa(resp.StatusCode), rest, nil
}

func (t target) accepts(answer string) bool {
	return slices.ContainsFunc(t.right, func(right string) bool {
		return answer == right || strings.HasSuffix(right, "xx") && len(answer) == 3 && answer[0] == right[0]
	})
}

// Whatever comes over a connection, each server answers it properly and in time, keeps its memory, and serves others
// meanwhile.
func TestHostileRequests(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	addresses := map[string]string{"master": c.at.Master, "agent": c.at.Agents[0], "marathon": c.at.Marathon}
	daemons := []int{c.daemon(t, "master").PID, c.daemon(t, "agent").PID}
	master := daemons[0]

	files, err := filepath.Glob(filepath.Join("testdata", "hostile", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	var attacks []attack
	for _, file := range files {
		attacks = append(attacks, readAttacks(t, file)...)
	}

	quiet := honest(t, c, func(answers int) bool { return answers < 300 })
	before, descriptors := residentBytes(t, master), openFiles(t, master)

	over := make(chan struct{})
	var others sync.WaitGroup
	var peak int64
	var busy []time.Duration
	others.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-over:
				tick.Stop()
				return
			case <-tick.C:
				peak = max(peak, residentBytes(t, master))
			}
		}
	})
	others.Go(func() {
		busy = honest(t, c, func(int) bool {
			select {
			case <-over:
				return false
			default:
				return true
			}
		})
	})
	sent := attackAll(t, attacks, addresses)
	if out := c.must("run", "--", "echo", "still here"); !strings.Contains(out, "still here") {
		t.Errorf("a task among the attacks wrote %q", out)
	}
	neverReads(t, c)
	close(over)
	others.Wait()

	t.Logf("%d requests of %d cases; %d honest answers meanwhile, median %s, p99 %s (in quiet %s, %s); the master's memory %d MiB, at most %d MiB",
		sent, len(attacks), len(busy), median(busy), p99(busy), median(quiet), p99(quiet), before>>20, peak>>20)
	if peak > before+hostileMemory {
		t.Errorf("the master's memory grew from %d MiB to %d MiB", before>>20, peak>>20)
	}
	if len(busy) == 0 {
		t.Error("no honest client was served")
	}
	await(t, soon, "master without the attack's connections", c.describe, func() bool { return openFiles(t, master) <= descriptors+keptOpen })
	c.checkUnharmed(t, daemons)
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// What one client may send in one call keeps nobody else waiting: with work in proportion to the square of what is sent,
// each of these took the master from seconds to minutes.
func TestLargeCallsAreNoTrouble(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	numbered := func(n int, format string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(all, ",")
	}
	const multi = `"user":"root","name":"test","capabilities":[{"type":"MULTI_ROLE"}]`
	for _, roles := range []int{900, 60_000} {
		body := fmt.Sprintf(`{"type":"SUBSCRIBE","subscribe":{"framework_info":{%s,"roles":[%s]},"suppressed_roles":[%s]}}`,
			multi, numbered(roles, `"r%d"`), numbered(200_000, `"s%d"`))
		answer := request{"POST", schedulerPath, []string{asJSON}, body}.send(t, c.at.Master)
		if answer.status != 200 || !strings.Contains(answer.text, `"type":"ERROR"`) || len(answer.text) > 10_000 {
			t.Errorf("SUBSCRIBE with %d roles: %d, %d bytes: %.200s", roles, answer.status, len(answer.text), answer.text)
		}
	}
	weights := `[` + numbered(9000, `{"role":"r%d","weight":2}`) + `]`
	if answer := (request{"PUT", "/weights", nil, weights}).send(t, c.at.Master); answer.status != 200 {
		t.Errorf("PUT /weights: %d %.200s", answer.status, answer.text)
	}
	s := c.subscribe(t, forms[0], "")
	o := s.offer()
	sets := strings.Replace(task("sets", o, "true"), `"resources":[`, `"resources":[`+numbered(20_000, `{"name":"s","type":"SET","set":{"item":["i%d"]}}`)+",", 1)
	ports := strings.Replace(task("ports", o, "true"), `"resources":[`, `"resources":[`+numbered(20_000, `{"name":"p","type":"RANGES","ranges":{"range":[{"begin":1%d1,"end":1%[1]d1}]}}`)+",", 1)
	s.launch(o, sets, ports, task("plain", o, "true"))
	for _, id := range []string{"sets", "ports"} {
		if refused := s.want(id, "TASK_ERROR"); refused.Message == "" {
			t.Errorf("%s was refused without a word", id)
		}
	}
	s.follow("plain", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.teardown()
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// However many subscribe and never read, health checks and agents find the master.
func TestCrowd(t *testing.T) {
	const crowd = 4200 // more than the master has connections
	c := up(t, newWorkDir(t), "--no-demo")
	body := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"crowd"},"suppressed_roles":["*"]}}`
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", schedulerPath, c.at.Master, len(body))
	conns := make([]net.Conn, 0, crowd)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	answers := map[string]int{}
	for i := range crowd {
		conn, err := net.Dial("tcp", c.at.Master)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		_ = conn.SetDeadline(time.Now().Add(soon))
		if _, err := io.WriteString(conn, head+body); err != nil {
			t.Fatal(err)
		}
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, status); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		answers[string(status[9:])]++
	}
	if answers["200"] < 1900 || answers["200"] > 2000 || answers["200"]+answers["503"] != crowd {
		t.Errorf("the crowd was answered %v", answers)
	}
	for _, path := range []string{"/health", "/gantry/v1/link", "/metrics/snapshot"} {
		if answer := (request{"GET", path, nil, ""}).send(t, c.at.Master); answer.status != 200 {
			t.Errorf("%s in the crowd: %d %.200s", path, answer.status, answer.text)
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
	c.checkNothingHeld(t)
	if out := c.must("run", "--", "echo", "still here"); !strings.Contains(out, "still here") {
		t.Errorf("a task after the crowd wrote %q", out)
	}
	c.end()
	c.checkNothingLeft()
}

// attackAll sends every attack to each of its targets, in any order, and returns how many that were.
func attackAll(t *testing.T, attacks []attack, addresses map[string]string) int {
	type blow struct {
		attack
		target
	}
	var blows []blow
	for range hostileRounds {
		for _, a := range attacks {
			for _, at := range a.targets {
				blows = append(blows, blow{a, at})
			}
		}
	}
	rand.Shuffle(len(blows), func(i, j int) { blows[i], blows[j] = blows[j], blows[i] })
	var waiting sync.WaitGroup
	turn := make(chan struct{}, hostileAtOnce)
	slow := make(chan struct{}, 8*hostileAtOnce) // those that mostly wait
	for _, b := range blows {
		queue := turn
		if b.dripAt < len(b.bytes) || slices.Contains(b.right, "408") {
			queue = slow
		}
		waiting.Go(func() {
			queue <- struct{}{}
			defer func() { <-queue }()
			answer, rest, err := b.send(addresses[b.server], b.path)
			if err != nil || !b.accepts(answer) {
				t.Errorf("%s, to %s%s: %v, %s %.200q; want %v", b.name, b.server, b.path, err, answer, rest, b.right)
			}
		})
	}
	waiting.Wait()
	return len(blows)
}

// honest calls all servers in turn while more says so, and returns how long each answer took.
func honest(t *testing.T, c *cluster, more func(answers int) bool) []time.Duration {
	var took []time.Duration
	get := http.Client{Timeout: soon}
	for more(len(took)) {
		for _, url := range []string{"http://" + c.at.Master + "/version", "http://" + c.at.Agents[0] + "/version", "http://" + c.at.Marathon + "/v2/apps"} {
			begun := time.Now()
			resp, err := get.Get(url)
			if err != nil {
				t.Errorf("an honest client was not answered: %v", err)
				return took
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			took = append(took, time.Since(begun))
			if resp.StatusCode != 200 || err != nil {
				t.Errorf("an honest GET %s: %s, %v", url, resp.Status, err)
			}
		}
	}
	return took
}

// neverReads subscribes, asks for more than fits between it and the master, and reads none of it. The master has to end
// the subscription, and the framework with it, rather than wait.
func neverReads(t *testing.T, c *cluster) {
	t.Helper()
	const tasks, calls = 8_000, 3 // some 10 MB of answers, much of it the ids
	s := c.subscribe(t, forms[0], "")
	unknown := make([]string, tasks)
	for i := range unknown {
		unknown[i] = fmt.Sprintf(`{"task_id":{"value":"unknown-%0240d"}}`, i)
	}
	for range calls {
		s.call("RECONCILE", `"reconcile":{"tasks":[`+strings.Join(unknown, ",")+`]}`)
	}
	await(t, soon, "master that drops who never reads", c.describe, func() bool {
		return !slices.ContainsFunc(c.state(t).GetFrameworks.Frameworks, func(f *masterpb.Response_GetFrameworks_Framework) bool {
			return f.FrameworkInfo.GetId().GetValue() == s.id
		})
	})
	if e := s.last(); !strings.HasPrefix(e.Type, "broken") {
		t.Errorf("the stream ended with %+v, rather than in the middle", e)
	}
}

func residentBytes(t *testing.T, pid int) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Errorf("the process is gone: %v", err)
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kilobytes, err := strconv.ParseInt(strings.Fields(after + " 0")[0], 10, 64)
	if err != nil {
		t.Error(err)
	}
	return kilobytes << 10
}

func openFiles(t *testing.T, pid int) int {
	list, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		t.Errorf("the process is gone: %v", err)
	}
	return len(list)
}

func median(of []time.Duration) time.Duration { return rank(of, 50) }
func p99(of []time.Duration) time.Duration    { return rank(of, 99) }

func rank(of []time.Duration, percent int) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)-1)*percent/100].Round(time.Microsecond)
}

// checkUnharmed fails the test if a daemon or a plugin is another process, or wrote of a panic.
func (c *cluster) checkUnharmed(t *testing.T, daemons []int) {
	t.Helper()
	if now := []int{c.daemon(t, "master").PID, c.daemon(t, "agent").PID}; !slices.Equal(now, daemons) {
		t.Errorf("master and agent are processes %v, and were %v\n%s", now, daemons, c.describe())
	}
	for _, plugin := range c.plugins(t) {
		if plugin.State != "running" || plugin.Restarts != 0 {
			t.Errorf("a plugin did not bear it: %+v", plugin)
		}
	}
	logs, err := filepath.Glob(filepath.Join(c.workDir, "logs", "*"))
	if err != nil || len(logs) == 0 {
		t.Errorf("no logs: %v", err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"panic", "fatal error", "goroutine "} {
			if i := strings.Index(string(text), bad); i >= 0 {
				t.Errorf("%s has %q: %.2000s", filepath.Base(path), bad, text[i:])
			}
		}
	}
}
