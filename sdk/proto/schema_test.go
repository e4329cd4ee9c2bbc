package proto_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/allocator"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	maintenancepb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/maintenance"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	quotapb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/quota"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// files are all of the v1 schema.
var files = []protoreflect.FileDescriptor{
	mesos.File_mesos_v1_mesos_proto,
	agentpb.File_mesos_v1_agent_agent_proto,
	allocatorpb.File_mesos_v1_allocator_allocator_proto,
	executorpb.File_mesos_v1_executor_executor_proto,
	maintenancepb.File_mesos_v1_maintenance_maintenance_proto,
	masterpb.File_mesos_v1_master_master_proto,
	quotapb.File_mesos_v1_quota_quota_proto,
	schedulerpb.File_mesos_v1_scheduler_scheduler_proto,
}

// TestSchemaIsTheTable compares every row of testdata/mesos-v1.tsv with the linked-in
// descriptors, in both directions.
func TestSchemaIsTheTable(t *testing.T) {
	want := readTable(t, "testdata/mesos-v1.tsv")
	got := map[string]bool{}
	for _, file := range files {
		describeEnums(got, file.Enums())
		describeMessages(got, file.Messages())
	}
	for row := range want {
		if !got[row] {
			t.Errorf("the schema lacks   %s", row)
		}
	}
	for row := range got {
		if !want[row] {
			t.Errorf("the table has no   %s", row)
		}
	}
	if t.Logf("%d rows", len(want)); len(want) < 1600 {
		t.Errorf("the table has %d rows, want some 1631", len(want))
	}
}

// TestNoFileOutsideTheTable keeps the list of files above complete.
func TestNoFileOutsideTheTable(t *testing.T) {
	count := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package())+".", "mesos.v1.") {
			count++
		}
		return true
	})
	if count != len(files) {
		t.Errorf("%d files of mesos.v1 are linked in, the tests look at %d", count, len(files))
	}
}

func readTable(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows := map[string]bool{}
	lines := bufio.NewScanner(file)
	if !lines.Scan() || lines.Text() != "kind\towner\tname\tnumber\tlabel\ttype\tnote" {
		t.Fatalf("%s starts with %q", path, lines.Text())
	}
	for lines.Scan() {
		if rows[lines.Text()] {
			t.Fatalf("%s has this twice: %s", path, lines.Text())
		}
		rows[lines.Text()] = true
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

func describeMessages(rows map[string]bool, messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		m := messages.Get(i)
		if m.Fields().Len() == 0 {
			rows[fmt.Sprintf("message\t%s\t\t\t\t\t", short(m.FullName()))] = true
		}
		for j := range m.Fields().Len() {
			rows[describeField(m.Fields().Get(j))] = true
		}
		describeEnums(rows, m.Enums())
		describeMessages(rows, m.Messages())
	}
}

func describeField(f protoreflect.FieldDescriptor) string {
	typ := f.Kind().String()
	if f.Message() != nil {
		typ = short(f.Message().FullName())
	} else if f.Enum() != nil {
		typ = short(f.Enum().FullName())
	}
	var notes []string
	if f.HasDefault() && f.Enum() != nil {
		notes = append(notes, "default="+string(f.DefaultEnumValue().Name()))
	} else if f.HasDefault() {
		notes = append(notes, "default="+f.Default().String())
	}
	if isDeprecated(f) {
		notes = append(notes, "deprecated")
	}
	if f.ContainingOneof() != nil {
		notes = append(notes, "oneof")
	}
	return fmt.Sprintf("field\t%s\t%s\t%d\t%s\t%s\t%s", short(f.Parent().FullName()),
		f.Name(), f.Number(), f.Cardinality(), typ, strings.Join(notes, " "))
}

func describeEnums(rows map[string]bool, enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		values := enums.Get(i).Values()
		for j := range values.Len() {
			v, note := values.Get(j), ""
			if isDeprecated(v) {
				note = "deprecated"
			}
			rows[fmt.Sprintf("enum\t%s\t%s\t%d\t\t\t%s", short(enums.Get(i).FullName()), v.Name(), v.Number(), note)] = true
		}
	}
}

func isDeprecated(d protoreflect.Descriptor) bool {
	switch options := d.Options().(type) {
	case *descriptorpb.FieldOptions:
		return options.GetDeprecated()
	case *descriptorpb.EnumValueOptions:
		return options.GetDeprecated()
	}
	return false
}

// short is the name as the table has it.
func short(name protoreflect.FullName) string {
	return strings.TrimPrefix(string(name), "mesos.v1.")
}
