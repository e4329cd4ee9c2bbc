package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/isolators/sandbox"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// depot is a directory to fetch from, beside a file that is none of it.
func depot(t *testing.T) (root, outside string) {
	t.Helper()
	dir := t.TempDir()
	root, outside = filepath.Join(dir, "depot"), filepath.Join(dir, "secret")
	must(t, os.MkdirAll(filepath.Join(root, "sub"), 0o755))
	for path, content := range map[string]string{
		outside: "secret", filepath.Join(root, "app"): "#!/bin/sh\n",
		filepath.Join(root, "sub", "data"): "data", filepath.Join(root, "a.tar.gz"): "tar",
	} {
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	for link, target := range map[string]string{
		"out": outside, "rel-out": "../secret", "dir-out": dir, "inside": "sub/data",
	} {
		must(t, os.Symlink(target, filepath.Join(root, link)))
	}
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	return root, outside
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prepare(t *testing.T, fetchRoot string, uris ...*mesos.CommandInfo_URI) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "runs", "c")
	err := sandbox.Prepare(t.Context(), sandbox.Config{
		Dir: dir, FetchRoot: fetchRoot, UID: os.Getuid(), GID: os.Getgid(), MaxBytes: 100}, uris)
	return dir, err
}

func uri(value string) *mesos.CommandInfo_URI {
	return &mesos.CommandInfo_URI{Value: proto.String(value)}
}

func TestFetch(t *testing.T) {
	root, _ := depot(t)
	app := uri("file://" + root + "/app")
	app.Executable = proto.Bool(true)
	named := uri(root + "/sub/data")
	named.OutputFile = proto.String("deep/er/name")
	archive := uri("file://localhost" + root + "/a.tar.gz")
	archive.Extract = proto.Bool(false)
	dir, err := prepare(t, root, app, uri("file://"+root+"/inside"), named, archive)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"app": {"#!/bin/sh\n", 0o755}, "inside": {"data", 0o644}, "deep/er/name": {"data", 0o644}, "a.tar.gz": {"tar", 0o644},
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		info, err := os.Lstat(filepath.Join(dir, name))
		must(t, err)
		if string(data) != want.content || info.Mode() != want.mode {
			t.Errorf("%s: %q, %v", name, data, info.Mode())
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	root, outside := depot(t)
	extract := uri(root + "/a.tar.xz")
	escape := uri(root + "/app")
	escape.OutputFile = proto.String("../app")
	absolute := uri(root + "/app")
	absolute.OutputFile = proto.String("/etc/cron.d/app")
	output := uri(root + "/app")
	output.OutputFile = proto.String("./stdout")
	for name, tc := range map[string]struct {
		root string
		uri  *mesos.CommandInfo_URI
		want error
	}{
		"no root":          {"", uri(root + "/app"), sandbox.ErrDenied},
		"outside":          {root, uri("file://" + outside), sandbox.ErrDenied},
		"dot dot":          {root, uri("file://" + root + "/../secret"), sandbox.ErrDenied},
		"escaped dot dot":  {root, uri("file://" + root + "/%2e%2e/secret"), sandbox.ErrDenied},
		"link out":         {root, uri("file://" + root + "/out"), sandbox.ErrDenied},
		"relative link":    {root, uri("file://" + root + "/rel-out"), sandbox.ErrDenied},
		"directory link":   {root, uri("file://" + root + "/dir-out/secret"), sandbox.ErrDenied},
		"prefix":           {root, uri("file://" + root + "-2/app"), sandbox.ErrDenied},
		"fifo":             {root, uri("file://" + root + "/fifo"), sandbox.ErrDenied},
		"directory":        {root, uri("file://" + root + "/sub"), sandbox.ErrDenied},
		"the root":         {root, uri("file://" + root), sandbox.ErrDenied},
		"other host":       {root, uri("file://elsewhere" + root + "/app"), sandbox.ErrDenied},
		"relative":         {root, uri("file:app"), sandbox.ErrDenied},
		"output escapes":   {root, escape, sandbox.ErrDenied},
		"output absolute":  {root, absolute, sandbox.ErrDenied},
		"output is stdout": {root, output, sandbox.ErrDenied},
		"missing":          {root, uri("file://" + root + "/none"), os.ErrNotExist},
		"other scheme":     {root, uri("hdfs://127.0.0.1/app"), sandbox.ErrUnsupported},
		"no scheme":        {root, uri("app"), sandbox.ErrUnsupported},
		"xz":               {root, extract, sandbox.ErrUnsupported},
	} {
		dir, err := prepare(t, tc.root, tc.uri)
		if !errors.Is(err, tc.want) || !strings.HasPrefix(err.Error(), "failed to fetch "+tc.uri.GetValue()+": ") {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: sandbox has %v, %v", name, entries, err)
		}
	}
}

func TestFetchBounds(t *testing.T) {
	root, _ := depot(t)
	must(t, os.WriteFile(filepath.Join(root, "60"), make([]byte, 60), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "60b"), make([]byte, 60), 0o600))
	if _, err := prepare(t, root, uri(root+"/60"), uri(root+"/60b")); !errors.Is(err, sandbox.ErrDenied) {
		t.Errorf("120 bytes of 100: %v", err)
	}
	if _, err := prepare(t, root, uri(root+"/app"), uri(root+"/app")); !errors.Is(err, os.ErrExist) {
		t.Errorf("one name twice: %v", err)
	}
	if _, err := prepare(t, root, make([]*mesos.CommandInfo_URI, sandbox.MaxURIs+1)...); err == nil {
		t.Error("there is no bound of URIs")
	}
}

func TestPrepare(t *testing.T) {
	dir, err := prepare(t, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := sandbox.Prepare(t.Context(), sandbox.Config{Dir: dir}, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a sandbox twice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root, _ := depot(t)
	err = sandbox.Prepare(ctx, sandbox.Config{Dir: filepath.Join(t.TempDir(), "x"), FetchRoot: root, UID: os.Getuid(), GID: os.Getgid()},
		[]*mesos.CommandInfo_URI{uri(root + "/app")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestGive(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	top := t.TempDir()
	dir, outside := filepath.Join(top, "box"), filepath.Join(top, "outside")
	for _, err := range []error{
		os.Mkdir(dir, 0o750), os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755), os.WriteFile(filepath.Join(dir, "a", "b", "file"), nil, 0o600),
		os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600),
		os.Symlink("../outside", filepath.Join(dir, "link")), os.Symlink("nothing", filepath.Join(dir, "a", "broken")),
		sandbox.Give(dir, 1234, 100),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := uint32(0)
		if path == dir || strings.HasPrefix(path, dir+"/") {
			want = 1234
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%s belongs to %d, not %d", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := sandbox.Give(filepath.Join(top, "nothing"), 0, 0); err == nil {
		t.Error("what is not there was given away")
	}
}
