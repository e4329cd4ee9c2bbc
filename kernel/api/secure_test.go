package api

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHostAllowList(t *testing.T) {
	h := Secure(NewMaster(newCluster().config()), SecureConfig{Hosts: []string{"Gantry.example"}})
	for host, want := range map[string]int{
		"127.0.0.1:5050":          200,
		"127.0.0.1":               200,
		"127.9.9.9:1":             200,
		"localhost:5050":          200,
		"LocalHost":               200,
		"localhost.":              200,
		"[::1]:5050":              200,
		"[::1]":                   200,
		"gantry.example:80":       200,
		"evil.example":            403,
		"localhost.evil.example":  403,
		"127.0.0.1.evil.example":  403,
		"10.0.0.1:5050":           403,
		"sub.gantry.example":      403,
		"":                        403,
		"localhost:5050:evil.com": 403,
		"user@localhost":          403,
	} {
		r := ask{"GET", "/health", []string{"Host: " + host}, ""}.to(t, h)
		if r.StatusCode != want {
			t.Errorf("Host %q: got %d, want %d", host, r.StatusCode, want)
		}
		if body := bodyOf(t, r); want == 403 && !strings.Contains(body, "is not one that this server knows") {
			t.Errorf("Host %q: %q", host, body)
		}
	}
}

// The check of a load balancer may speak HTTP/1.0 and name no host.
func TestHostOfOldClients(t *testing.T) {
	s := httptest.NewServer(Secure(NewMaster(newCluster().config()), SecureConfig{}))
	defer s.Close()
	for head, want := range map[string]string{
		"GET /health HTTP/1.0\r\n\r\n":                       "HTTP/1.0 200",
		"GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n": "HTTP/1.0 403",
		"GET /health HTTP/1.1\r\n\r\n":                       "HTTP/1.1 400",
		"GET /health HTTP/1.1\r\nHost:\r\n\r\n":              "HTTP/1.1 403",
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q: %q, %v", head, line, err)
		}
		conn.Close()
	}
}

// A listener on every address serves each of them by its number.
func TestHostOfTheConnection(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts := map[string]bool{}
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		r.Host = local
		if !allowedHost(hosts, r) {
			t.Errorf("Host %q of the connection itself is refused", r.Host)
		}
		r.Host = "192.0.2.1:80"
		if allowedHost(hosts, r) {
			t.Errorf("Host %q is allowed on %s", r.Host, local)
		}
	}))
	s.Start()
	defer s.Close()
	r, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
}

func TestCrossOrigin(t *testing.T) {
	h := Secure(NewMaster(newCluster().config()), SecureConfig{Origins: []string{"https://console.example"}})
	const kill = "/gantry/v1/tasks/kill"
	body := `{"framework_id":"F","task_id":"t"}`
	for _, c := range []struct {
		headers string
		want    int
	}{
		{"", 202}, // no browser
		{"Origin: http://127.0.0.1:5050", 202},
		{"Sec-Fetch-Site: same-origin", 202},
		{"Origin: https://console.example", 202},
		{"Origin: http://evil.example", 403},
		{"Origin: null", 403},
		{"Sec-Fetch-Site: cross-site", 403},
		{"Sec-Fetch-Site: same-site", 403},
	} {
		headers := []string{asJSON}
		if c.headers != "" {
			headers = append(headers, c.headers)
		}
		r := ask{"POST", kill, headers, body}.to(t, h)
		if r.StatusCode != c.want {
			t.Errorf("%q: got %d, want %d", c.headers, r.StatusCode, c.want)
		}
	}
	if err := (SecureConfig{Origins: []string{"console.example"}}).Validate(); err == nil {
		t.Error("an origin without a scheme is valid")
	}
}

func TestBounds(t *testing.T) {
	h := Secure(NewMaster(newCluster().config()), SecureConfig{MaxBody: 1000})
	for _, c := range []struct {
		name   string
		ask    ask
		status int
	}{
		{"body at the limit", ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_HEALTH"}` + repeat(" ", 1000-21)}, 200},
		{"body over the limit", ask{"POST", "/api/v1", []string{asJSON}, repeat(" ", 1001)}, 413},
		{"protobuf over the limit", ask{"POST", "/api/v1/scheduler", []string{asProtobuf}, repeat("x", 1001)}, 413},
		{"our own", ask{"POST", "/gantry/v1/tasks/kill", []string{asJSON}, repeat(" ", 1001)}, 413},
		{"long address", ask{"GET", "/health?" + repeat("x", maxURI), nil, ""}, 414},
	} {
		if r := c.ask.to(t, h); r.StatusCode != c.status {
			t.Errorf("%s: %d %q, want %d", c.name, r.StatusCode, bodyOf(t, r), c.status)
		}
	}
	large := ask{"POST", "/api/v1", []string{asJSON}, repeat(" ", MaxBody+1)}
	if r := large.to(t, Secure(NewMaster(newCluster().config()), SecureConfig{})); r.StatusCode != 413 {
		t.Errorf("default limit: %d", r.StatusCode)
	}
}

func TestHeadersForBrowsers(t *testing.T) {
	for _, target := range []string{"/health", "/nothing", "/version"} {
		r := ask{"GET", target, nil, ""}.to(t, newCluster().handler())
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s: %v", target, r.Header)
		}
	}
}

// A body that trickles in is given up, and so is a head.
func TestSlowRequests(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		want string
		took time.Duration
	}{
		"body": {"POST /api/v1 HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 408 ", readWithin},
		"head": {"POST /api/v1 HTTP/1.1\r\nHost:", "", 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := piped(t, newCluster())
			start := time.Now()
			if _, err := client.Write([]byte(c.sent)); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(client).ReadString('\n')
			if took := time.Since(start); !strings.HasPrefix(line, c.want) || took != c.took {
				t.Errorf("%s: %q after %s; want %q after %s", name, line, took, c.want, c.took)
			}
		})
	}
}

func TestCheckListen(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:5050":   true,
		"127.0.0.1:0":      true,
		"localhost:5050":   true,
		"[::1]:5050":       true,
		":5050":            false,
		"0.0.0.0:5050":     false,
		"[::]:5050":        false,
		"10.0.0.1:5050":    false,
		"example.com:5050": false,
	} {
		err := CheckListen(addr, false)
		if (err == nil) != want || err != nil && (!errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), addr)) {
			t.Errorf("%s: %v", addr, err)
		}
		if err := CheckListen(addr, true); err != nil {
			t.Errorf("%s, insecure: %v", addr, err)
		}
	}
	if err := CheckListen("5050", true); err == nil || errors.Is(err, ErrExposed) {
		t.Errorf("no host: %v", err)
	}
	l, err := Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
