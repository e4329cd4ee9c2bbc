package proto_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// offers is an OFFERS event of n offers such as a cluster of plain agents sends.
func offers(n int) *schedulerpb.Event {
	event := &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{}}
	for i := range n {
		host := fmt.Sprintf("agent-%03d.rack-%d.example.org", i, i%8)
		event.Offers.Offers = append(event.Offers.Offers, &mesos.Offer{
			Id:             &mesos.OfferID{Value: new(fmt.Sprintf("0f2d2b4e-5d8c-4c2f-9a53-6d1f1a3e8b77-O%d", i))},
			FrameworkId:    &mesos.FrameworkID{Value: new("0f2d2b4e-5d8c-4c2f-9a53-6d1f1a3e8b77-0001")},
			AgentId:        &mesos.AgentID{Value: new(fmt.Sprintf("0f2d2b4e-5d8c-4c2f-9a53-6d1f1a3e8b77-S%d", i))},
			Hostname:       &host,
			AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("web")},
			Url: &mesos.URL{Scheme: new("http"), Path: new("/slave(1)"),
				Address: &mesos.Address{Hostname: &host, Ip: new("10.0.0.1"), Port: new(int32(5051))}},
			Resources: []*mesos.Resource{
				scalarResource("cpus", 7.5), scalarResource("mem", 30720), scalarResource("disk", 409600),
				{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{
					Range: []*mesos.Value_Range{{Begin: new(uint64(31000)), End: new(uint64(32000))}}}},
			},
			Attributes: []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(),
				Text: &mesos.Value_Text{Value: new(fmt.Sprint(i % 8))}}},
		})
	}
	return event
}

func scalarResource(name string, v float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: scalar(v),
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new("web")}}
}

func BenchmarkMarshalOffers(b *testing.B) {
	event := offers(100)
	b.Run("mesosjson", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = mesosjson.Append(buf[:0], event); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(len(buf)))
		b.ReportAllocs()
	})
	b.Run("protojson", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = (protojson.MarshalOptions{UseProtoNames: true}).MarshalAppend(buf[:0], event); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(len(buf)))
		b.ReportAllocs()
	})
}

func BenchmarkUnmarshalOffers(b *testing.B) {
	event := offers(100)
	benchmarkUnmarshal(b, "mesosjson", event, func(m *schedulerpb.Event) ([]byte, error) { return mesosjson.Marshal(m) },
		func(body []byte, m *schedulerpb.Event) error { return mesosjson.Unmarshal(body, m) })
	benchmarkUnmarshal(b, "protojson", event, func(m *schedulerpb.Event) ([]byte, error) { return protojson.Marshal(m) },
		func(body []byte, m *schedulerpb.Event) error { return protojson.Unmarshal(body, m) })
	benchmarkUnmarshal(b, "binary", event, func(m *schedulerpb.Event) ([]byte, error) { return proto.Marshal(m) },
		func(body []byte, m *schedulerpb.Event) error { return proto.Unmarshal(body, m) })
}

func benchmarkUnmarshal(b *testing.B, name string, event *schedulerpb.Event,
	marshal func(*schedulerpb.Event) ([]byte, error), unmarshal func([]byte, *schedulerpb.Event) error) {
	b.Run(name, func(b *testing.B) {
		body, err := marshal(event)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if err := unmarshal(body, &schedulerpb.Event{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
