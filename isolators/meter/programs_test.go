package meter

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// madeBy is the compiler of the objects that are committed: others make others.
const madeBy = "clang version 14."

func TestObjectsAreOfTheSource(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Skip("clang is not installed, which only those who change the programs need:", err)
	}
	if !strings.Contains(string(version), madeBy) {
		t.Skipf("the objects were made by %s*, which this is not: %s", madeBy, version)
	}
	for target, object := range map[string]string{"bpfel": "count_bpfel.o", "bpfeb": "count_bpfeb.o"} {
		made := filepath.Join(t.TempDir(), object)
		out, err := exec.Command("clang", "-target", target, "-g", "-O2", "-c", "count.bpf.c", "-o", made,
			"-I/usr/include/x86_64-linux-gnu", "-I/usr/include/aarch64-linux-gnu").CombinedOutput()
		if strings.Contains(string(out), "bpf/bpf_helpers.h") {
			t.Skip("libbpf-dev is not installed, which only those who change the programs need")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got, want := programs(t, made), programs(t, object)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is not of this source: make generate. The source gives\n%v\nbut it has\n%v", object, got, want)
		}
	}
}

// programs is the instructions of each program in an object, and what its maps are.
func programs(t *testing.T, file string) map[string]string {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec(file)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for name, p := range spec.Programs {
		var text strings.Builder
		for _, ins := range p.Instructions {
			fmt.Fprintln(&text, ins)
		}
		found[name] = p.SectionName + "\n" + text.String()
	}
	for name, m := range spec.Maps {
		found[name] = m.String()
	}
	return found
}

func TestBothSidesAgree(t *testing.T) {
	spec, err := loadCount()
	if err != nil {
		t.Fatal(err)
	}
	if n := spec.Maps[countMapGroups].MaxEntries; n != MaxGroups {
		t.Errorf("the programs have room for %d groups, the meter for %d", n, MaxGroups)
	}
}
