// Package flat writes the JSON of a master's older read-only endpoints (/state, /slaves,
// /tasks and so on), which monitoring and scripts read: resources are one object of plain
// numbers, enums and capabilities are names, times are seconds. Everything is made from
// the answers of the operator calls, with which it so agrees.
//
//	v := flat.State(state, flat.Master{Info: info, Version: version})
//	body, err := json.Marshal(v)
package flat
