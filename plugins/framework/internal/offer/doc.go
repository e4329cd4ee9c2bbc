// Package offer cuts tasks from offers: what is left of one, and where it comes from.
//
//	pool, place := offer.NewPool(o.GetResources()), offer.PlaceOf(o)
//	if pool.Left("cpus") >= offer.Milli(0.1) {
//		resources = append(resources, pool.Take("cpus", offer.Milli(0.1))...)
//	}
//
// It is pure.
package offer
