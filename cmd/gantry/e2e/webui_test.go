package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a headless browser with one page open, driven by ui/page.js.
type browser struct {
	t       *testing.T
	cmd     *exec.Cmd
	screen  *screen
	pieces  io.WriteCloser
	answers *bufio.Reader
	shots   string
}

// openBrowser starts one for the site at an address. $GANTRY_SCREENSHOTS names a folder for its pictures, if somebody
// wants to see them.
func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		skip := t.Skipf
		if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
			skip = t.Fatalf
		}
		skip("the page is tested in chromium (Debian: chromium): %v", err)
	}
	b := &browser{t: t, screen: new(screen), shots: os.Getenv("GANTRY_SCREENSHOTS")}
	modules := nodeModules(t, "ui")
	if b.shots == "" {
		b.shots = t.TempDir()
	}
	script, err := filepath.Abs(filepath.Join("ui", "page.js"))
	if err != nil {
		t.Fatal(err)
	}
	b.cmd = exec.Command("node", script, chromium, base, b.shots)
	b.cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	b.cmd.Stderr = b.screen
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if b.pieces, err = b.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	b.answers = bufio.NewReader(out)
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.pieces.Close()
		late := time.AfterFunc(endWithin, func() { b.cmd.Process.Kill() })
		defer late.Stop()
		if err := b.cmd.Wait(); err != nil {
			t.Errorf("the browser: %v\n%s", err, b.screen)
		}
	})
	return b
}

// do runs a piece of JavaScript, as page.js describes it, and returns its result as JSON.
func (b *browser) do(t *testing.T, piece string) string {
	t.Helper()
	line, err := json.Marshal(piece)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pieces.Write(append(line, '\n')); err != nil {
		t.Fatalf("%v\n%s", err, b.screen)
	}
	text, err := b.answers.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, b.screen)
	}
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if answer.Error != "" {
		t.Fatalf("%s\n\n%s", piece, answer.Error)
	}
	return string(answer.Result)
}

// The page through a day of a cluster, in a browser: every view, what changes while it is watched, and texts that would
// like to be more than text. Anything against its policy, any failure of its code and any request to elsewhere fails it.
func TestPage(t *testing.T) {
	const recent = `const [a, b] = process.versions.node.split("."); process.exit(a > 22 || a == 22 && b >= 12 || a == 20 && b >= 19 ? 0 : 1)`
	if exec.Command("node", "-e", recent).Run() != nil {
		t.Skip("the page is built with node 20.19, 22.12 or newer: without it there is only the plain one") // as in the Makefile
	}
	c := up(t, newWorkDir(t))
	c.awaitInstances(2)
	base := "http://" + c.at.Master
	if c.at.Page != c.at.Master || !strings.Contains(c.screen.String(), base+"/\n") {
		t.Errorf("where the page is was not told: %q\n%s", c.at.Page, c.screen)
	}
	await(t, soon, "page", c.describe, func() bool { return pageStatus(base) == http.StatusOK })
	b := openBrowser(t, base)

	t.Run("it opens", func(t *testing.T) {
		millis := b.do(t, `
			const began = Date.now();
			await page.goto(base + "/");
			await see(page.getByText("tasks running"));
			await see(page.locator(".tile", { hasText: "2tasks running" }));
			const took = Date.now() - began;
			await see(page.getByText("measured").first());
			await see(page.locator(".latest li", { hasText: "hello-web" }));
			await shot("overview");
			return took;`)
		t.Logf("from the address to the first view: %s ms", millis)
	})
	t.Run("views show what there is", func(t *testing.T) { b.views(t) })
	t.Run("it lives", func(t *testing.T) { b.lives(t, c) })
	t.Run("texts of others stay text", func(t *testing.T) { b.hostile(t, c) })
	t.Run("offers", func(t *testing.T) { b.offers(t, c) })
	t.Run("an agent joins and leaves", func(t *testing.T) { b.agents(t, c) })
	t.Run("a keyboard will do", func(t *testing.T) { b.keyboard(t) })
	t.Run("the master goes and comes", func(t *testing.T) { b.reconnects(t, c) })
	t.Run("ten thousand tasks", func(t *testing.T) { b.manyTasks(t) })

	c.end()
	c.checkNothingLeft()
}

func pageStatus(base string) int {
	resp, err := http.Get(base + "/")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (b *browser) views(t *testing.T) {
	b.do(t, `
		await page.getByRole("link", { name: "Applications", exact: true }).click();
		await see(row("/hello-web").getByText("2 of 2"));
		await shot("applications");
		await view("frameworks");
		await see(row("marathon").getByText("active"));
		await shot("frameworks");
		await view("plugins");
		for (const name of ["drf", "marathon", "webui"]) await see(row(name).getByText("running"));
		await shot("plugins");
		await view("jobs");
		await see(page.getByText(/^Jobs are not running here|^There are no jobs|^\d+ job/));
		await shot("jobs");
		await view("agents");
		await see(row("127.0.0.1").getByText("active"));
		await shot("agents");
		await row("127.0.0.1").getByRole("link").first().click();
		await see(page.locator("tr", { hasText: "cpus" }));
		await see(row("hello-web"));
		await shot("agent");
		await page.goto(base + "/plugins/webui/#/plugins"); // the same page, at the plugin's own path
		await see(row("webui"));
		await view("nonsense");
		await see(page.getByText("There is no such view."));`)
}

// A task is watched from its launch to its end; its output while it is written.
func (b *browser) lives(t *testing.T, c *cluster) {
	b.do(t, `await view("tasks"); await see(row("hello-web"));`)
	run, _ := c.begin("run", "--name", "counter", "--", "sh", "-c", "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done")
	b.do(t, `
		await see(row("counter").getByText("running"));
		await see(row("counter").getByText(/[\d.]+ MB of 32 MB/));
		await shot("tasks");
		await page.getByRole("link", { name: "counter", exact: true }).click();
		await see(page.locator("pre", { hasText: "line 5" }));
		await see(page.locator("pre", { hasText: "line 30" }));
		await see(page.getByText(/, live$/));
		assert.ok(await page.locator("pre").evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 8), "the log is followed");
		await page.getByRole("button", { name: "stderr" }).click();
		await see(page.getByText("0 B, live"));
		await page.getByRole("button", { name: "stdout" }).click();
		await shot("task");`)
	c.must("task", "kill", "counter")
	b.do(t, `
		await see(page.locator(".facts", { hasText: "killed" }));
		await see(page.getByText(/, the task has ended$/));
		await see(page.locator(".history li", { hasText: "killed" }));
		await view("");
		await see(page.locator(".latest li", { hasText: "counter" }).filter({ hasText: "killed" }));
		await view("tasks");
		await gone(row("counter"));`)
	_ = run.Wait() // with the status of a task that was killed
}

func (b *browser) hostile(t *testing.T, c *cluster) {
	const name = `<img src=x onerror=hacked()><script>hacked()</script>`
	status, _, errOut := c.gantry("run", "--name", name, "--", "sh", "-c",
		`echo '<script>hacked()</script><img src=x onerror=hacked()>'; printf '\033]0;title\007\377\n'; mkdir '<b>x'; echo deep > '<b>x/<i>y'; exit 4`)
	if status != 4 {
		t.Fatalf("exit status %d, %s", status, errOut)
	}
	s := c.subscribe(t, forms[0], `"principal":"\"><svg onload=hacked()>","webui_url":"javascript:hacked()","roles":["<u>role"],"capabilities":[{"type":"MULTI_ROLE"}]`)
	b.do(t, fmt.Sprintf(`
		const name = %q;
		await page.exposeFunction("hacked", () => { throw new Error("hacked"); });
		await page.evaluate(() => { window.wasHacked = 0; window.hacked = () => { window.wasHacked++; }; });
		const clean = async () => assert.deepEqual(
			await page.evaluate(() => [window.wasHacked, document.querySelectorAll("img, iframe, object, b, i, u, svg:not(.bar)").length, document.scripts.length]), [0, 0, 1]);
		await view("tasks");
		await page.getByLabel("Show").selectOption("ended");
		await page.getByRole("searchbox").fill("onerror");
		await page.getByRole("link", { name, exact: true }).click();
		await see(page.getByRole("heading", { name, exact: true }));
		await see(page.locator("pre", { hasText: "<script>hacked()</script><img src=x onerror=hacked()>" }));
		await see(page.getByText("Command exited with status 4"));
		await page.getByRole("button", { name: "<b>x/" }).click();
		await page.getByRole("button", { name: "<i>y" }).click();
		await see(page.locator("pre", { hasText: "deep" }));
		await shot("hostile");
		await clean();
		await view("frameworks");
		await row("<svg onload").getByRole("link").click();
		await see(page.getByText("javascript:hacked()"));
		await see(page.getByText("<u>role"));
		assert.equal(await page.getByRole("link", { name: "javascript" }).count(), 0);
		await shot("hostile-framework");
		await clean();`, name))
	s.teardown()
}

// What a framework holds is seen, and to whom it was offered.
func (b *browser) offers(t *testing.T, c *cluster) {
	s := c.subscribe(t, forms[0], "")
	s.offer()
	b.do(t, `
		await view("offers");
		await see(row("test").getByText("127.0.0.1"));
		await shot("offers");`)
	s.teardown()
	b.do(t, `await see(page.getByText("No offers are out"));`)
}

// A small agent with attributes joins: it is offered, listed and shown; and so is that it has gone.
func (b *browser) agents(t *testing.T, c *cluster) {
	b.do(t, `await view("agents"); await see(row("127.0.0.1"));`)
	cmd := exec.Command(filepath.Join(bin, "gantry"), "agent", "--master", c.at.Master, "--listen", "127.0.0.1:0",
		"--work-dir", filepath.Join(c.workDir, "guest"), "--token-file", filepath.Join(c.workDir, "agent.token"), "--hostname", "localhost",
		"--resources", "cpus:0.5;mem:96;disk:10;ports:[41000-41003]", "--attributes", "rack:<b>7;level:2")
	shown := new(screen)
	cmd.Stdout, cmd.Stderr = shown, shown
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent: %v\n%s", err, shown)
		}
	}()
	b.do(t, `
		await see(row("localhost").getByText("active"));
		await see(row("localhost").getByText("0 of 0.5"));
		await see(row("localhost").getByText("rack: <b>7"));`)
	if out := c.must("agent", "list"); !strings.Contains(out, "rack:<b>7; level:2") || !strings.Contains(out, "0.5") {
		t.Errorf("gantry agent list:\n%s", out)
	}
	s := c.subscribe(t, forms[0], "")
	var small offer
	s.take("offer of the new agent", func(e event) bool {
		i := slices.IndexFunc(e.Offers.Offers, func(o offer) bool { return o.Hostname == "localhost" })
		if i >= 0 {
			small = e.Offers.Offers[i]
		}
		return i >= 0
	})
	if small.milli("cpus") != 500 || small.milli("mem") != 96_000 {
		t.Errorf("offered %v", small.Resources)
	}
	b.do(t, `
		await view("offers");
		await see(row("localhost").getByText("0.5"));
		await see(row("localhost").getByText("41000-41003"));
		await view("agents");
		await row("localhost").getByRole("link").click();
		await see(page.locator("tr", { hasText: "ports" }).getByText("41000-41003").first());
		await shot("guest");
		await view("agents");`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.take("RESCIND", func(e event) bool { return e.Type == "RESCIND" && e.Rescind.OfferID == small.ID })
	b.do(t, `
		await see(row("localhost").getByText("away"));
		await shot("away");
		await view("");
		await see(page.locator(".tile", { hasText: "1 away" }));`)
	await(t, soon, "agent that is not active", c.describe, func() bool {
		for line := range strings.Lines(c.must("agent", "list")) {
			if strings.Contains(line, "localhost") && strings.Contains(line, " no ") {
				return true
			}
		}
		return false
	})
	s.teardown()
}

// From the top of the page to a task and its output by keys alone.
func (b *browser) keyboard(t *testing.T) {
	b.do(t, `
		await page.goto(base + "/#/tasks");
		await page.reload();
		await see(row("hello-web"));
		const focused = () => page.evaluate(() => document.activeElement.textContent);
		await page.keyboard.press("Tab");
		assert.equal(await focused(), "Skip to the content");
		await page.keyboard.press("Enter");
		assert.equal(await focused(), "Tasks");
		await page.keyboard.press("/");
		await page.keyboard.type("hello running");
		assert.equal(await page.getByRole("searchbox").inputValue(), "hello running");
		await page.keyboard.press("Escape");
		assert.equal(await page.getByRole("searchbox").inputValue(), "");
		for (let i = 0; i < 30 && (await focused()) !== "hello-web"; i++) await page.keyboard.press("Tab");
		await page.keyboard.press("Enter");
		await see(page.getByRole("heading", { name: "hello-web" }));
		await see(page.getByText("Sandbox"));
		assert.equal(await focused(), "hello-web");
		for (let i = 0; i < 40 && (await focused()) !== "stderr"; i++) await page.keyboard.press("Tab");
		await page.keyboard.press("Enter");
		await see(page.locator(".log strong", { hasText: "stderr" }));
		await page.keyboard.press("Tab");
		await page.emulateMedia({ colorScheme: "dark" });
		await shot("dark-task");
		await view("");
		await see(page.getByText("tasks running"));
		await shot("dark");
		await page.emulateMedia({ colorScheme: "light" });
		await page.setViewportSize({ width: 400, height: 800 });
		await shot("narrow");
		assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than a narrow window");
		await page.setViewportSize({ width: 1280, height: 800 });`)
}

// A lost connection is said, and what was seen stays; then it goes on by itself.
func (b *browser) reconnects(t *testing.T, c *cluster) {
	b.do(t, `
		await view("tasks");
		await see(row("hello-web"));
		await page.evaluate(() => {
			window.sawLost = "";
			new MutationObserver(() => {
				const text = document.body.innerText;
				if (text.includes("The connection to the master is lost since")) window.sawLost = text;
			}).observe(document.body, { subtree: true, childList: true, characterData: true });
		});`)
	if err := syscall.Kill(c.daemon(t, "master").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.do(t, `
		await page.waitForFunction(() => window.sawLost.includes("hello-web"), undefined, { polling: 100 });
		await gone(page.getByText("The connection to the master is lost since"));
		await see(page.locator(".dot.live"));
		await see(row("hello-web").getByText("running"));`)
}

// The table stays small and quick to look through; these tasks are made up.
func (b *browser) manyTasks(t *testing.T) {
	b.do(t, `
		const tasks = Array.from({ length: 10_000 }, (_, i) => ({
			name: "task " + i, task_id: { value: "t" + i }, framework_id: { value: "F" }, agent_id: { value: "A" },
			state: i % 3 ? "TASK_RUNNING" : "TASK_STAGING", resources: [{ name: "cpus", type: "SCALAR", scalar: { value: 0.1 } }],
		}));
		const event = JSON.stringify({ type: "SUBSCRIBED", subscribed: { get_state: { get_tasks: { tasks } }, heartbeat_interval_seconds: 15 } });
		await page.route("**/api/v1", (route) =>
			route.request().postData().includes("SUBSCRIBE")
				? route.fulfill({ status: 200, contentType: "application/json", body: Buffer.byteLength(event) + "\n" + event })
				: route.continue());
		await page.goto(base + "/#/tasks");
		await page.reload();
		await see(page.getByText("10,000 tasks"));
		assert.equal(await page.locator("tbody tr").count(), 100);
		await page.getByRole("searchbox").fill("task 4242");
		await see(page.getByText("1 of 10,000 tasks"));
		await page.getByRole("searchbox").fill("staging");
		await see(page.getByText("3,334 of 10,000 tasks"));
		await page.getByRole("button", { name: "Next" }).click();
		await see(page.getByText("2 of 34"));
		await shot("many");
		await page.unrouteAll({ behavior: "ignoreErrors" });`)
}
