package main

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/layers"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "{}": "", `{"roots": ["/srv/images"], "insecure_registries": ["hub:5000"], "cache_mb": 9000}`: "",
		`{"root": ["/srv"]}`:       "its keys are roots",
		`{"roots": ["srv"]}`:       `roots has "srv"`,
		`{"roots": ["/"]}`:         `roots has "/"`,
		`{"roots": ["/srv/../x"]}`: "write absolute folders",
		`{"cache_mb": 0}`:          "cache_mb = 0",
		`{"max_image_files": -1}`:  "max_image_files = -1",
		`{"cache_mb": 100}`:        "max_image_mb = 8192 is more than cache_mb = 100",
		`{} {}`:                    "something follows it",
	} {
		_, err := parseConfig([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", text, err, want)
		}
	}
}

// TestPrepare: a container has the layers of its image until it is cleaned up, and an image that is known needs no
// registry.
func TestPrepare(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can unpack layers")
	}
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer hub.Close()
	image, err := random.Image(1000, 3)
	if err == nil {
		image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/serve"}, Env: []string{"A=1"}, User: "7:8"})
	}
	if err != nil {
		t.Fatal(err)
	}
	ref := strings.TrimPrefix(hub.URL, "http://") + "/app:1"
	parsed, err := name.ParseReference(ref)
	if err == nil {
		err = remote.Write(parsed, image)
	}
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	start := func(living ...string) *plugin {
		p, err := open(&containerizerpb.OpenRequest{Folder: folder, Containers: living}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	held := func() int {
		notes, err := os.ReadDir(filepath.Join(folder, "held"))
		if err != nil {
			t.Fatal(err)
		}
		return len(notes)
	}
	shell := false
	request := &containerizerpb.PrepareRequest{Container: "c1", Kind: "docker", Image: ref, Command: &mesos.CommandInfo{Shell: &shell}}
	p := start()
	answer, err := p.Prepare(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := image.Digest()
	if len(answer.Layers) != 3 || answer.Argv[0] != "/serve" || answer.User.GetUid() != 7 || answer.Digest != digest.String() || answer.Env[0] != "A=1" {
		t.Errorf("got %v", answer)
	}
	last, _ := image.Layers()
	if id, _ := last[2].DiffID(); answer.Layers[0] != "layers/"+id.Hex {
		t.Errorf("the topmost layer comes first: %q, %s", answer.Layers, id)
	}
	for _, layer := range answer.Layers {
		if _, err := os.Stat(filepath.Join(folder, layer)); err != nil {
			t.Error(err)
		}
	}
	hub.Close()
	request.Container = "c2"
	p = start("c1")
	if _, err := p.Prepare(t.Context(), request); err != nil {
		t.Errorf("a known image: %v", err)
	}
	request.Fresh = true
	if _, err := p.Prepare(t.Context(), request); err == nil {
		t.Error("a fresh look at a registry that has gone succeeded")
	}
	if held() != 2 {
		t.Errorf("%d containers hold layers", held())
	}
	if err := errors.Join(p.Cleanup(t.Context(), "c1"), p.Cleanup(t.Context(), "c1"), p.Cleanup(t.Context(), "c2")); err != nil || held() != 0 {
		t.Errorf("%d containers hold layers, %v", held(), err)
	}
	request.Kind = "wasm"
	if _, err := p.Prepare(t.Context(), request); err == nil || !strings.Contains(err.Error(), "not for this plugin") {
		t.Errorf("another kind: %v", err)
	}
}

// TestKnownImages: what is remembered is bounded, and what is damaged is forgotten.
func TestKnownImages(t *testing.T) {
	dir := t.TempDir()
	for i := range maxKnown + 5 {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("x", i/100+1)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := openKnown(dir)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != maxKnown {
		t.Errorf("%d are remembered, %v", len(entries), err)
	}
	for _, text := range []string{"", "{", `{"name":"other"}`} {
		if err := os.WriteFile(k.path("app"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := k.find("app"); ok {
			t.Errorf("%q is known", text)
		}
	}
}

// TestOpenRefuses: a configuration that is wrong is told.
func TestOpenRefuses(t *testing.T) {
	if _, err := open(&containerizerpb.OpenRequest{Folder: t.TempDir(), ConfigJson: []byte(`{"cache": 1}`)}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an unknown key was accepted")
	}
	if _, err := layers.Open(filepath.Join(t.TempDir(), "file\x00"), layers.Limits{}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an impossible folder was accepted")
	}
}
