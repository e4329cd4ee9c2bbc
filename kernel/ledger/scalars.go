package ledger

// Scalars are sums of scalars by name, in thousandths; what is revocable is apart. The zero
// value is empty.
type Scalars struct{ Firm, Revocable map[string]int64 }

// Add adds the scalars among the resources.
func (s *Scalars) Add(all Resources) {
	for r := range all.All() {
		sums := &s.Firm
		if r.Revocable {
			sums = &s.Revocable
		}
		if *sums == nil {
			*sums = map[string]int64{}
		}
		(*sums)[r.Name] += r.Milli
	}
}
