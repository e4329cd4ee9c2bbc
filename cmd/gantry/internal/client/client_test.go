package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRefusalsKeepTheirWords(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"plain":      {403, "Framework is not subscribed\n", "Framework is not subscribed"},
		"json":       {404, `{"message":"App '/x' does not exist"}`, "App '/x' does not exist"},
		"details":    {422, `{"message":"Object is not valid","details":[{"path":"/id"}]}`, `Object is not valid: [{"path":"/id"}]`},
		"other json": {500, `{"error":1}`, `{"error":1}`},
		"nothing":    {503, "", "the answer was 503 Service Unavailable"},
		"long":       {400, strings.Repeat("x", 1<<20), strings.Repeat("x", 8<<10)},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
		}))
		_, err := New("", strings.TrimPrefix(server.URL, "http://")).Apps(t.Context())
		server.Close()
		if err == nil || err.Error() != c.want || IsNotFound(err) != (c.status == 404) || errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestAppIDsArePaths(t *testing.T) {
	for id, want := range map[string]string{
		"web": "/v2/apps/web", "/web": "/v2/apps/web", "/prod/web/": "/v2/apps/prod/web", "a b?c": "/v2/apps/a%20b%3Fc", "": "/v2/apps",
	} {
		if got := new(Client).marathonRequest("GET", id).path; got != want {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

func TestNoAddressIsNobody(t *testing.T) {
	if _, err := New("", "").Apps(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without an address: %v", err)
	}
}
