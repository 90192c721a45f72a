"""What the placement is asked for a call."""

from twofold_cluster.legs import why_inseparable
from twofold_cluster.prompt_key import prompt_key
from twofold_router.gateway.parsing import Call, max_output_tokens
from twofold_router.placement import PlacementRequest
from twofold_router.settings import RouterSettings


def placement_request(
    call: Call, model: str, request_id: str, settings: RouterSettings
) -> PlacementRequest:
    """Make the request that *call*, which *model* is behind, is placed with, under *request_id* in
    the placement.

    Raises:
        RequestError: a field of the prompt is not valid JSON.
    """
    api, fields, terms = call.two_legged_api, call.fields, call.terms
    # The tenant's salt is in the fields already.
    adapter = "" if call.model == model else call.model
    key = prompt_key(api, fields, model=model, adapter=adapter, block_bytes=settings.block_bytes)
    return PlacementRequest(
        request_id=request_id,
        model=call.model,
        key=key,
        separable=why_inseparable(api, fields) is None,
        arrived_at=call.arrived_at,
        deadline_at=call.arrived_at + settings.request_timeout_seconds,
        max_output_tokens=max_output_tokens(fields),
        tenant=terms.tenant,
        priority=terms.priority,
        ttft_slo_seconds=terms.ttft_slo_seconds,
        ttft_slo_seconds_per_token=terms.ttft_slo_seconds_per_token,
        refuse_late=terms.on_late == "refuse",
    )
