package agentd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gantry-project/gantry/isolators/overlay"
	"github.com/gantry-project/gantry/kernel/host"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// boxes is a containerizer of this test's, over a real connection.
type boxes struct {
	containerizerpb.UnimplementedContainerizerServer
	server *grpc.Server
	// opening is called before Open is answered; cleaned has whom Cleanup was called for.
	opening func()
	told    []string
	cleaned chan string
	// dies has the next Prepare end with its server.
	dies bool
}

func (b *boxes) Open(_ context.Context, r *containerizerpb.OpenRequest) (*containerizerpb.OpenResponse, error) {
	b.told = r.GetContainers()
	b.opening()
	return &containerizerpb.OpenResponse{}, os.Mkdir(filepath.Join(r.GetFolder(), "layer"), 0o755)
}

func (b *boxes) Prepare(_ context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
	if b.dies {
		go b.server.Stop()
		<-make(chan struct{})
	}
	if r.GetImage() == "box:/bad" {
		return nil, errors.New("no such box")
	}
	return &containerizerpb.PrepareResponse{Layers: []string{"layer"}, Argv: []string{"/x"}}, nil
}

func (b *boxes) Cleanup(_ context.Context, r *containerizerpb.CleanupRequest) (*containerizerpb.CleanupResponse, error) {
	b.cleaned <- r.GetContainer()
	return &containerizerpb.CleanupResponse{}, nil
}

// serve has i talk with b until stop is called, which waits for the conversation's end.
func (b *boxes) serve(t *testing.T, i *images) (stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	b.server, b.cleaned = grpc.NewServer(), make(chan string, 10)
	if b.opening == nil {
		b.opening = func() {}
	}
	containerizerpb.RegisterContainerizerServer(b.server, b)
	go b.server.Serve(l)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() {
		_ = i.ServeContainerizer(ctx, host.Entry{Name: "boxes", Images: []string{"box"}}, containerizerpb.NewContainerizerClient(conn)) // ends with ctx
	})
	return func() {
		cancel()
		served.Wait()
		b.server.Stop()
		conn.Close()
	}
}

// shelf is an agent's images, and which containers there are.
func shelf(t *testing.T, list func() ([]string, error)) *images {
	t.Helper()
	i := &images{
		dir: t.TempDir(), kinds: map[string]string{"box": "boxes"}, list: list, log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		connected: map[string]*connection{}, changed: make(chan struct{}),
	}
	return i
}

func none() ([]string, error) { return nil, nil }

func TestAPluginThatDiesIsAskedAgain(t *testing.T) {
	i := shelf(t, none)
	first := &boxes{dies: true}
	stopFirst := first.serve(t, i)
	got := make(chan *accepted, 1)
	go func() {
		a, err := i.prepare(t.Context(), &containerizerpb.PrepareRequest{Kind: "box", Image: "box:/good"})
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	i.awaitConnection(t, nil)
	stopFirst()
	if err := os.RemoveAll(filepath.Join(i.dir, "boxes")); err != nil {
		t.Fatal(err)
	}
	second := &boxes{}
	defer second.serve(t, i)()
	if a := <-got; a == nil || len(a.layers) != 1 || a.layers[0] != filepath.Join(i.dir, "boxes/layer") {
		t.Errorf("got %v", a)
	}
}

func (i *images) awaitConnection(t *testing.T, old *connection) *connection {
	t.Helper()
	c, err := i.connection(t.Context(), "boxes", old)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWhoEndsWhileAPluginOpens: the plugin was told that it lives, and hears of its end as soon as it can.
func TestWhoEndsWhileAPluginOpens(t *testing.T) {
	var mu sync.Mutex
	living := []string{"c1", "c2"}
	i := shelf(t, func() ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		return living, nil
	})
	b := &boxes{opening: func() {
		mu.Lock()
		defer mu.Unlock()
		living = []string{"c2"}
		i.cleanup("c1") // which nobody hears
	}}
	defer b.serve(t, i)()
	if c := <-b.cleaned; c != "c1" {
		t.Errorf("it cleans up after %s", c)
	}
	if len(b.told) != 2 {
		t.Errorf("it was told of %q", b.told)
	}
	i.cleanup("c2")
	if c := <-b.cleaned; c != "c2" {
		t.Errorf("it cleans up after %s", c)
	}
}

func TestPrepareRefuses(t *testing.T) {
	i := shelf(t, none)
	defer (&boxes{}).serve(t, i)()
	for image, want := range map[string]string{"box:/bad": "no such box", "wasm:/x": `no plugin of this agent prepares images of kind "wasm"`} {
		kind, _, _ := strings.Cut(image, ":")
		if _, err := i.prepare(t.Context(), &containerizerpb.PrepareRequest{Kind: kind, Image: image}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", image, err, want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.prepare(gone, &containerizerpb.PrepareRequest{Kind: "box", Image: "box:/good"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a task that was killed: %v", err)
	}
	i.unable = overlay.ErrUnsupported
	if _, err := i.prepare(t.Context(), &containerizerpb.PrepareRequest{Kind: "box", Image: "box:/good"}); !errors.Is(err, overlay.ErrUnsupported) {
		t.Errorf("a host without overlays: %v", err)
	}
}
