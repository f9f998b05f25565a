"""Jobs that compute nothing: what there is, whether all is well, and what may be let go of."""

from __future__ import annotations

from typing import Any

from medseg.core.errors import MedsegError
from medseg.slicer_bridge.worker_context import Context


def describe(context: Context) -> dict[str, Any]:
    """Return the methods with their parameters, the models with what they find, and the pipelines."""
    from medseg.method import catalog
    from medseg.method.schema import describe as described
    from medseg.pipeline import builtin_pipelines

    names = context.job.get("names", ())
    methods = [catalog.find(name) for name in names] if names else catalog.methods()
    values: dict[str, Any] = {"methods": [described(method) for method in methods]}
    if names:
        return values
    pipelines = [pipeline.model_dump(mode="json", by_alias=True) for pipeline in builtin_pipelines().values()]
    return values | {"pipelines": pipelines, **_models(context)}


def _models(context: Context) -> dict[str, Any]:
    """Return the cards of the models that come with medseg and of those of this user's store."""
    from medseg.segmentation.learned.store.card import card_of, described_card, installed_card
    from medseg.segmentation.learned.store.find import list_models, list_prompt_models
    from medseg.segmentation.learned.store.installed import default_store, find_broken, list_installed

    try:
        stores = [default_store()]
        cards = {model.name: installed_card(model) for model in list_installed(stores)}
        for model in list_models(stores):
            cards.setdefault(model.description.name, described_card(model))
        for folder in list_prompt_models(stores):
            cards.setdefault(folder.name, card_of(folder))
        broken = [{"name": name, "fault": fault} for name, fault in find_broken(stores).items()]
    except MedsegError as err:
        context.log(f"models cannot be listed: {err}")
        return {"models": [], "broken_models": []}
    return {"models": [card.to_dict() for _, card in sorted(cards.items())], "broken_models": broken}


def doctor(context: Context) -> dict[str, Any]:
    """Return what was checked, each with its status, a sentence and what to do."""
    from medseg.slicer_bridge.doctor import worker_checks

    job = context.job
    return {"checks": [check.to_json() for check in worker_checks(folder=job.get("folder"), store=job.get("store"))]}


def forget(context: Context) -> dict[str, Any]:
    """Let go of a scan, or of all."""
    return {"forgotten": context.scans.forget(context.job.get("key"))}
