"""Choose the model that answers a request: by the body's `model`, as APIs of one company's models have it."""

from __future__ import annotations

from bertstream.server.core.models import Models, ServedModel
from bertstream.server.protocols.http.call import HttpCall
from bertstream.server.protocols.tei_v1.choosing import Wanted


def chosen(
    models: Models, call: HttpCall, name: str | None, wanted: Wanted, defaults: tuple[str, ...] = ()
) -> ServedModel:
    """Return the model of this name; without a name, the first that suits.

    Clients of a company's API send the name of one of its models unless they are told another. Where the caller has
    but one model to choose, a name that begins like one of these `defaults` means that model. Any other name that is
    not served is refused, as vectors of another model than the one that was asked for would be taken for its own.
    Raises as `Models.get` and `Wanted.choose` do.
    """
    own = [each.name for each in models if call.caller.may_use(each.name)]
    if not name or (len(own) == 1 and name not in own and name.startswith(defaults or ("\0",))):
        return wanted.choose(models, call)
    return models.get(name, call.until_end, call.caller)
