package rules

import (
	"slices"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Call tells whether a scheduler's call is complete: the part that its type needs is
// there, ids agree, roles are roles. What needs the cluster's state is judged later.
func Call(c *schedulerpb.Call) error {
	if err := initialized(c); err != nil {
		return err
	}
	if c.Type == nil {
		return refuse("Expecting 'type' to be present")
	}
	if c.GetType() == schedulerpb.Call_SUBSCRIBE {
		return subscribe(c)
	}
	if c.FrameworkId == nil {
		return refuse("Expecting 'framework_id' to be present")
	}
	if part, has := partOf(c); !has {
		return refuse("Expecting '%s' to be present", part)
	}
	switch c.GetType() {
	case schedulerpb.Call_ACKNOWLEDGE:
		return uuid(c.GetAcknowledge().GetUuid())
	case schedulerpb.Call_ACKNOWLEDGE_OPERATION_STATUS:
		return acknowledgeOperation(c.GetAcknowledgeOperationStatus())
	case schedulerpb.Call_REVIVE:
		return roles(c.GetRevive().GetRoles())
	case schedulerpb.Call_SUPPRESS:
		return roles(c.GetSuppress().GetRoles())
	case schedulerpb.Call_UPDATE_FRAMEWORK:
		return updateFramework(c)
	default:
		return nil
	}
}

// partOf names the part of the call that belongs to its type, and tells whether it is
// there. TEARDOWN has none; REVIVE and SUPPRESS may do without: they mean every role then.
func partOf(c *schedulerpb.Call) (string, bool) {
	switch c.GetType() {
	case schedulerpb.Call_ACCEPT:
		return "accept", c.Accept != nil
	case schedulerpb.Call_DECLINE:
		return "decline", c.Decline != nil
	case schedulerpb.Call_ACCEPT_INVERSE_OFFERS:
		return "accept_inverse_offers", c.AcceptInverseOffers != nil
	case schedulerpb.Call_DECLINE_INVERSE_OFFERS:
		return "decline_inverse_offers", c.DeclineInverseOffers != nil
	case schedulerpb.Call_KILL:
		return "kill", c.Kill != nil
	case schedulerpb.Call_SHUTDOWN:
		return "shutdown", c.Shutdown != nil
	case schedulerpb.Call_ACKNOWLEDGE:
		return "acknowledge", c.Acknowledge != nil
	case schedulerpb.Call_ACKNOWLEDGE_OPERATION_STATUS:
		return "acknowledge_operation_status", c.AcknowledgeOperationStatus != nil
	case schedulerpb.Call_RECONCILE:
		return "reconcile", c.Reconcile != nil
	case schedulerpb.Call_RECONCILE_OPERATIONS:
		return "reconcile_operations", c.ReconcileOperations != nil
	case schedulerpb.Call_MESSAGE:
		return "message", c.Message != nil
	case schedulerpb.Call_REQUEST:
		return "request", c.Request != nil
	case schedulerpb.Call_UPDATE_FRAMEWORK:
		return "update_framework", c.UpdateFramework != nil
	default:
		return "", true
	}
}

func subscribe(c *schedulerpb.Call) error {
	if c.Subscribe == nil {
		return refuse("Expecting 'subscribe' to be present")
	}
	if c.GetSubscribe().GetFrameworkInfo().GetId().GetValue() != c.GetFrameworkId().GetValue() {
		return refuse("'framework_id' differs from 'subscribe.framework_info.id'")
	}
	return roles(c.GetSubscribe().GetSuppressedRoles())
}

func updateFramework(c *schedulerpb.Call) error {
	if c.GetUpdateFramework().GetFrameworkInfo().GetId().GetValue() != c.GetFrameworkId().GetValue() {
		return refuse("'framework_id' differs from 'update_framework.framework_info.id'")
	}
	return roles(c.GetUpdateFramework().GetSuppressedRoles())
}

func acknowledgeOperation(a *schedulerpb.Call_AcknowledgeOperationStatus) error {
	if err := uuid(a.GetUuid()); err != nil {
		return err
	}
	if a.AgentId == nil {
		return refuse("Expecting 'agent_id' to be present")
	}
	return nil
}

func uuid(bytes []byte) error {
	if len(bytes) != 16 {
		return refuse("Not a valid UUID")
	}
	return nil
}

func roles(list []string) error {
	for _, role := range list {
		if err := Role(role); err != nil {
			return err
		}
	}
	return nil
}

// Principal tells whether a framework may name the principal that it names, given the
// one that sent the call; anonymous callers may name any.
func Principal(f *mesos.FrameworkInfo, authenticated string) error {
	if authenticated != "" && f.Principal != nil && f.GetPrincipal() != authenticated {
		return refuse("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", authenticated, f.GetPrincipal())
	}
	return nil
}

// SupportedCall tells whether this kernel can carry out a call that Call accepts: nothing
// is done by half.
func SupportedCall(c *schedulerpb.Call) error {
	what := c.GetType().String()
	switch c.GetType() {
	case schedulerpb.Call_TEARDOWN, schedulerpb.Call_DECLINE, schedulerpb.Call_REVIVE, schedulerpb.Call_SUPPRESS,
		schedulerpb.Call_KILL, schedulerpb.Call_ACKNOWLEDGE, schedulerpb.Call_RECONCILE, schedulerpb.Call_REQUEST,
		schedulerpb.Call_MESSAGE, schedulerpb.Call_SHUTDOWN:
		return nil
	case schedulerpb.Call_SUBSCRIBE, schedulerpb.Call_UPDATE_FRAMEWORK:
		if len(c.GetSubscribe().GetOfferConstraints().GetRoleConstraints())+len(c.GetUpdateFramework().GetOfferConstraints().GetRoleConstraints()) == 0 {
			return nil
		}
		what += " with offer_constraints"
	case schedulerpb.Call_ACCEPT:
		i := slices.IndexFunc(c.GetAccept().GetOperations(), func(op *mesos.Offer_Operation) bool { return op.GetType() != mesos.Offer_Operation_LAUNCH })
		if i < 0 {
			return nil
		}
		what += " with " + c.GetAccept().GetOperations()[i].GetType().String()
	}
	return refuse("%s is not supported yet", what)
}
