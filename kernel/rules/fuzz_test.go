package rules

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// FuzzTask: a task that is accepted and has no executor fits what was offered, and
// says so again whoever asks.
func FuzzTask(f *testing.F) {
	offered, err := ledger.Parse("cpus:2;mem:64;ports:[1-10]")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{identity + one + sleep, identity + one + sleep + `limits { key: "cpus" value { value: 1 } } health_check { type: TCP tcp { port: 1 } }`} {
		var seed mesos.TaskInfo
		if err := prototext.Unmarshal([]byte(text), &seed); err != nil {
			f.Fatal(err)
		}
		bytes, err := proto.Marshal(&seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var info mesos.TaskInfo
		if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(bytes, &info) != nil {
			return
		}
		c := TaskContext{Agent: "A", Offered: offered, AllocationRole: "eng", Framework: &mesos.FrameworkInfo{}}
		before := proto.CloneOf(&info)
		err, supported := Task(&info, c), Supported(&info)
		if !proto.Equal(&info, before) {
			t.Fatal("the task was changed")
		}
		if err != nil || supported != nil {
			return
		}
		want, err := ledger.FromMesos(info.Resources)
		if err != nil || want.Empty() || !offered.Contains(want) {
			t.Fatalf("%s of %s is accepted, %v", want, offered, err)
		}
	})
}

// FuzzCall: an accepted call has every required field and the part of its type.
func FuzzCall(f *testing.F) {
	f.Add([]byte("\x0a\x03\x0a\x01F\x10\x03\x22\x00"))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var call schedulerpb.Call
		if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(bytes, &call) != nil {
			return
		}
		if Call(&call) != nil {
			return
		}
		if err := proto.CheckInitialized(&call); err != nil {
			t.Fatal(err)
		}
		if part, has := partOf(&call); !has {
			t.Fatalf("%s is missing", part)
		}
	})
}
