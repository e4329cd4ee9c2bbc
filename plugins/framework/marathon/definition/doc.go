// Package definition is what clients say about an app: the canonical form, the defaults,
// the rules, and the reading of JSON as old and new clients write it. It is pure.
//
//	patch, err := definition.ParsePatch(body)
//	app, err := patch.Apply(definition.Initial("/web"), "*")
//
// What Marathon knows and this version does not honour is refused with a sentence; what
// neither knows is passed over.
package definition
