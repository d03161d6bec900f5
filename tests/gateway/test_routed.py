"""Pools of models: who answers, why, what is learned, and that no call waits for want of a decision.

The engines are labelled fakes; the router is a real one, trained on a small made-up world.
"""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn: pip install 'negajoule[route]'")

from gateway.asking import ask
from gateway.conftest import gateway
from negajoule.engine import FakeEngine
from negajoule.errors import ConfigError, EngineError, RequestError
from negajoule.gateway import Door, KeyFile, KeyRing
from negajoule.gateway.pool import Pool
from negajoule.gateway.pool_plan import PoolPlan, read_limit, read_pools
from negajoule.gateway.route_pages import route_pages
from negajoule.gateway.routed import RoutedBackend
from negajoule.gateway.several import Loadable, SeveralEngines
from negajoule.gateway.wire import parse_call
from negajoule.route import Router, train
from negajoule.route.live import LiveBudget
from route.world import MODELS, made_up

KINGS = "who wrote the book number 7 of the 5 kings"
SUMS = "What is 12 plus 31 times 4? Give the number"
BEST_FIRST = ("large", "middle", "small")


@pytest.fixture(scope="module")
def router_file():
    return train(made_up())


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def pool(router_file=None, *, clock=None, **changes):
    plan = PoolPlan(**{"models": BEST_FIRST, **changes})
    router = None if router_file is None else Router(router_file, explore=plan.explore)
    return Pool(plan, router, lambda: 1e-4, clock=clock or Clock())


class Routing:
    """A gateway with a pool of fakes."""

    def __init__(self, *pools, engines=None, check=lambda call: None):
        self.pools, self.check = pools, check
        self.engines = engines or {name: FakeEngine(model_id=name) for name in MODELS}

    def __call__(self, splitter, accounts):
        loadable = {name: Loadable(lambda e=engine: e, 0) for name, engine in self.engines.items()}
        inner = SeveralEngines(loadable, splitter, accounts, lambda: None)
        self.backend = RoutedBackend(inner, self.pools, accounts.metrics, self.check)
        return self.backend

    def pages(self):
        """Pages whose backend is made when the server starts."""
        outer = self

        class _Late:
            def __getattr__(self, name):
                return getattr(outer.backend, name)

        return route_pages(_Late())


def serve(routing, **options):
    return gateway(routing, more_pages=routing.pages(), **options)


def chat(url, model="negajoule/auto", prompt=KINGS, *, key="", stream=False, headers=None, **changes):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, **changes}
    return ask(url, "/v1/chat/completions", body=body, key=key, **(headers or {}))


def rule(one, prompt=KINGS, wish="auto", able=None, **changes):
    body = {"model": f"negajoule/{wish}", "messages": [{"role": "user", "content": prompt}], **changes}
    return one.rule(parse_call("chat", json.dumps(body).encode()), wish, able or one.plan.models)


def test_a_pool_answers_and_says_who_and_why(fresh_home, router_file):
    with serve(Routing(pool(router_file))) as server:
        answer = chat(server.url)
        assert answer.status == 200, answer.body
        assert answer.json["model"] == answer.headers["x-negajoule-route-model"] in MODELS
        assert answer.headers["x-negajoule-route-task"] == "facts"
        assert "score" in answer.headers["x-negajoule-route-reason"]
        assert float(answer.headers["x-negajoule-route-predicted-j"]) > 0
        assert float(answer.headers["x-negajoule-route-cpu-us"]) > 0
        streamed = chat(server.url, stream=True)
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert streamed.headers["x-negajoule-route-model"] in MODELS
        metrics = ask(server.url, "/metrics").body
        assert b"negajoule_route_decisions 2.0" in metrics
        assert b"negajoule_route_assumed_joules" in metrics


def test_the_three_wishes(router_file):
    assert rule(pool(router_file), SUMS, "best").model == "large"
    assert rule(pool(router_file), KINGS, "frugal").model == "small"


def test_pools_are_listed_beside_their_models(fresh_home, router_file):
    with serve(Routing(pool(router_file), pool(name="other"))) as server:
        names = [model["id"] for model in ask(server.url, "/v1/models").json["data"]]
        assert {"negajoule/auto", "negajoule/frugal", "negajoule/best", "other/auto", *MODELS} <= set(names)
        direct = chat(server.url, "small")
        assert "x-negajoule-route-model" not in direct.headers
        assert chat(server.url, "negajoule/other").code == "R103"


@pytest.mark.parametrize("stream", [False, True])
def test_a_dry_run_shows_everything_and_runs_nothing(fresh_home, router_file, stream):
    routing = Routing(pool(router_file))
    with serve(routing) as server:
        dry = chat(server.url, stream=stream, headers={"x_negajoule_route": "dry-run"})
        data = json.loads(dry.body.split(b"\n")[0].removeprefix(b"data: ")) if stream else dry.json
        told = data["route"]
        assert told["schema"] == "negajoule.route/1"
        assert {view["model"] for view in told["candidates"]} == set(MODELS)
        assert told["prices"]["per_joule"] > 0
        body = {"model": "negajoule/auto", "messages": [{"role": "user", "content": KINGS}]}
        page = ask(server.url, "/v1/route", body=body)
        assert (page.status, page.json["model"]) == (200, told["model"])
        assert all(engine.started == 0 for engine in routing.engines.values())
        assert ask(server.url, "/v1/route", body={**body, "model": "small"}).code == "R103"
        assert chat(server.url, headers={"x_negajoule_route": "wet"}).code == "R102"


@pytest.mark.parametrize("prompt", ["", " ", "你好，请问今天", "\N{GRINNING FACE}", "x" * 1_000_000, "\x00"])
@pytest.mark.parametrize("with_router", [True, False])
def test_whatever_is_asked_somebody_answers(router_file, prompt, with_router):
    found = rule(pool(router_file if with_router else None), prompt)
    assert found.model in MODELS
    assert found.reason
    json.dumps(found.told(), allow_nan=False)


def test_images_pass(router_file):
    parts = [{"type": "text", "text": KINGS}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert rule(pool(router_file), parts).model in MODELS


def test_a_router_that_fails_blocks_nothing(router_file, monkeypatch):
    one = pool(router_file)

    def broken(text):
        raise FloatingPointError(text)

    monkeypatch.setattr(one.router.predictor, "predict", broken)
    found = rule(one)
    assert found.model == "large"
    assert "couldn't be looked at" in found.reason


def test_a_pool_of_one_and_a_model_that_came_later(router_file):
    assert rule(pool(router_file, models=("small",))).model == "small"
    found = rule(pool(router_file, models=("newcomer", "small")), wish="best")
    assert found.view("newcomer").known is False
    assert rule(pool(router_file, models=("one", "two"))).model in ("one", "two")


def test_who_gives_way_is_replaced_and_then_left_alone(fresh_home, router_file):
    engines = {name: FakeEngine(model_id=name) for name in MODELS}
    engines["large"] = FakeEngine(model_id="large", failure=EngineError("broken", status=502))
    one = pool(router_file, sticky=False)
    with serve(Routing(one, engines=engines)) as server:
        for _ in range(3):
            answer = chat(server.url, "negajoule/best", SUMS)
            assert answer.status == 200, answer.body
            assert "large gave way (E102)" in answer.headers["x-negajoule-route-reason"]
        assert "gave way" not in chat(server.url, "negajoule/best", SUMS).headers["x-negajoule-route-reason"]
        assert engines["large"].started == 3
        streamed = chat(server.url, "negajoule/best", SUMS, stream=True)
        assert streamed.body.endswith(b"data: [DONE]\n\n")


def test_models_that_all_fail_end_in_the_first_error(fresh_home):
    engines = {name: FakeEngine(model_id=name, failure=EngineError(name, status=502)) for name in MODELS}
    with serve(Routing(pool(), engines=engines)) as server:
        answer = chat(server.url)
        assert (answer.status, answer.code) == (502, "E102")


def test_who_cant_answer_isnt_asked(fresh_home, router_file):
    def check(call):
        if call.model == "small":
            raise RequestError("too long", code="R104")

    with serve(Routing(pool(router_file), check=check)) as server:
        assert chat(server.url, "negajoule/frugal").json["model"] != "small"

    def refuse(call):
        raise RequestError("too long", code="R104")

    with serve(Routing(pool(router_file), check=refuse)) as server:
        assert chat(server.url).code == "R104"


def test_a_key_gets_only_models_that_it_may_ask(fresh_home, router_file):
    _, both = KeyFile().create("both", models=["negajoule/*", "small"])
    _, none = KeyFile().create("none", models=["negajoule/*"])
    with serve(Routing(pool(router_file)), door=Door(KeyRing(KeyFile()))) as server:
        assert chat(server.url, "negajoule/best", SUMS, key=both).json["model"] == "small"
        assert chat(server.url, key=none).code == "R111"


def test_feedback_is_learned_logged_and_asked_once(fresh_home, router_file):
    one = pool(router_file)
    with serve(Routing(one)) as server:
        answer = chat(server.url)
        judged = {"request_id": answer.headers["x-negajoule-request-id"], "score": 0.0}
        assert ask(server.url, "/v1/feedback", body=judged).json["learned"] is True
        assert one.router.feedback.judged == 1
        assert ask(server.url, "/v1/feedback", body=judged).code == "R106"
        for wrong in (
            {**judged, "score": 2},
            {**judged, "score": "good"},
            {"score": 1.0},
            {**judged, "x": 1},
        ):
            assert ask(server.url, "/v1/feedback", body=wrong).code == "R102"
        assert ask(server.url, "/v1/feedback", body=b'{"score": NaN}').code == "R101"
    rows = [json.loads(line) for line in (fresh_home / "routes" / "decisions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [judged["request_id"]] * 2
    assert (rows[0]["propensity"], rows[1]["judged"]) == (1.0, 0.0)
    assert set(rows[0]["score"]) == set(MODELS)
    assert rows[0]["used_j"] > 0
    assert "kings" not in json.dumps(rows)


def test_another_key_cant_judge(fresh_home, router_file):
    _, asker = KeyFile().create("asker")
    _, other = KeyFile().create("other")
    with serve(Routing(pool(router_file)), door=Door(KeyRing(KeyFile()))) as server:
        judged = {"request_id": chat(server.url, key=asker).headers["x-negajoule-request-id"], "score": 1}
        assert ask(server.url, "/v1/feedback", body=judged, key=other).code == "R106"
        assert ask(server.url, "/v1/feedback", body=judged, key=asker).status == 200


def test_shadow_and_trial_decide_but_dont_answer(router_file):
    shadowed = rule(pool(router_file, shadow=True, default="middle"), wish="frugal")
    assert (shadowed.model, shadowed.shadowed) == ("middle", "small")
    tried = rule(pool(router_file, trial=("small",)), wish="frugal")
    assert tried.shadowed == "small"
    assert tried.model != "small"
    assert "on trial" in tried.reason


class Cost:
    """A footprint as far as pools look at it."""

    def __init__(self, joules):
        from negajoule.units import Carbon, Energy

        self.it_energy = Energy(joules, joules, joules, "measured", "node")
        self.carbon_location = Carbon(joules * 1e-4, joules * 1e-4, joules * 1e-4, "measured", "facility")


def test_a_conversation_stays_where_leaving_gains_too_little(router_file):
    one = pool(router_file, clock=Clock())
    long = SUMS + " and" * 20_000
    first = rule(one, long, "best")
    home = next(name for name in MODELS if name != first.model)
    one.learn(first, home, Cost(5.0))
    again = rule(one, long, "best")
    assert again.model == home
    assert "keeps the conversation" in again.reason
    assert again.order[0] == home
    assert rule(one, SUMS, "best").model == first.model, "another conversation has no home"
    one.clock.now_s = 601.0
    assert rule(one, long, "best").model == first.model
    free = pool(router_file, sticky=False)
    free.learn(rule(free, long, "best"), home, Cost(5.0))
    assert rule(free, long, "best").model == first.model


def test_a_conversation_leaves_where_that_gains_more(router_file):
    one = pool(router_file, clock=Clock())
    one.learn(rule(one, SUMS, "best"), "small", Cost(1.0))
    assert rule(one, SUMS, "best").model == "large"


def test_a_budget_raises_the_price_until_its_kept(router_file):
    cheap_j, dear_j = router_file.mean_energy_j.min(), router_file.mean_energy_j.max()
    limit_j = (cheap_j + dear_j) / 3
    one = pool(router_file, budget=f"{limit_j} J/request", sticky=False)
    outcomes = made_up(600, seed=5)
    used = []
    for row, prompt in enumerate(outcomes.prompts):
        found = rule(one, prompt)
        used.append(outcomes.energy_j[row, outcomes.models.index(found.model)])
        one.learn(found, found.model, Cost(float(used[-1])))
    assert sum(used[200:]) / 400 < 1.1 * limit_j


@pytest.mark.parametrize("budget", ["0 J/request", "0 gCO2e/h"])
def test_a_budget_of_nothing_takes_the_cheapest_and_blocks_nothing(router_file, budget):
    assert rule(pool(router_file, budget=budget), SUMS).model == "small"


def test_without_a_router_the_mix_keeps_the_budget():
    one = pool(budget="3 J/request")
    use, total = {"large": 10.0, "middle": 4.0, "small": 1.0}, 0.0
    for _ in range(400):
        found = rule(one)
        total += use[found.model]
        one.learn(found, found.model, Cost(use[found.model]))
    assert 2.0 < total / 400 <= 3.3


def test_without_a_router_frugal_takes_what_is_known_to_take_least():
    energies = {name: {"input_j": 0.1, "output_j": j} for name, j in (("large", 1.0), ("small", 2.0))}
    (one,) = (Pool(plan, None, float) for plan in read_pools([{"models": ["large", "small"]}], "x"))
    assert rule(one, wish="frugal").model == "small"
    one.learn(rule(one), "large", Cost(1.0))
    assert rule(one, wish="frugal").model == "small"
    one.learn(rule(one), "small", Cost(2.0))
    assert rule(one, wish="frugal").model == "large"
    (told,) = read_pools([{"models": ["large", "small"], "energies": energies}], "x")
    assert rule(Pool(told, None, float), wish="frugal").model == "large"


def test_windows_roll_over_and_keep_the_price():
    clock = Clock()
    budget = LiveBudget("J", 100.0, 3600.0, clock=clock)
    for _ in range(50):
        budget.book(3.0)
    assert budget.price > 1e6
    clock.now_s = 3700.0
    assert budget.pace == pytest.approx(2.0, rel=0.2)
    assert budget.spent == 0.0


def test_grams_follow_the_grid(router_file):
    one = pool(router_file, budget="0.0001 gCO2e/request")
    one.budget._budget.price = 50.0
    clean, dirty = [], []
    for intensity, found in ((1e-7, clean), (1e-1, dirty)):
        one.intensity_g_per_j = lambda intensity=intensity: intensity
        found.append(rule(one, SUMS).model)
    assert (clean, dirty) == (["large"], ["small"])


def test_a_new_state_keeps_what_holds(router_file, fresh_home):
    from negajoule.gateway import Metrics

    first, second = pool(router_file), pool(router_file)
    backend = RoutedBackend(None, [first], Metrics())
    first.learn(rule(first), "small", Cost(9.0))
    backend.replace([second])
    assert second.decisions == 1
    assert second.router.energy is first.router.energy


def test_memory_that_lacks_refuses_and_the_pool_goes_on(fresh_home):
    def full(splitter, accounts):
        engines = {
            "large": Loadable(lambda: pytest.fail("must not load"), 2**40),
            "small": Loadable(lambda: FakeEngine(model_id="small"), 0),
        }
        inner = SeveralEngines(engines, splitter, accounts, lambda: 2**30)
        return RoutedBackend(inner, [pool(models=("large", "small"))], accounts.metrics)

    with gateway(full) as server:
        assert chat(server.url, "large").code == "R107"
        assert chat(server.url).json["model"] == "small"
        assert chat(server.url, "nobody").code == "R103"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": []}, "models"),
        ({"models": ["a", "a"]}, "twice"),
        ({"budget": "40 J"}, "40 J"),
        ({"budget": "3 EUR/h"}, "3 EUR/h"),
        ({"explore": 2}, "explore"),
        ({"default": "nobody"}, "nobody"),
        ({"trial": ["a", "b"]}, "trial"),
        ({"name": "a b"}, "a b"),
        ({"colour": 1}, "colour"),
        ({"energies": {"a": {"input_j": "much"}}}, "input_j"),
    ],
)
def test_wrong_tables_are_refused_in_words(change, said):
    with pytest.raises(ConfigError, match=said):
        read_pools([{"models": ["a", "b"], **change}], "negajoule.toml")


def test_tables_are_read():
    (plan,) = read_pools(
        [{"models": ["a", "b"], "router": "r.npz", "budget": "2 kWh/day"}], "/etc/negajoule.toml"
    )
    assert plan.router == "/etc/r.npz"
    assert (plan.limit.amount, plan.limit.window_s) == (7.2e6, 86_400.0)
    assert read_limit("40 J/request").window_s is None
    with pytest.raises(ConfigError, match="two pools"):
        read_pools([{"models": ["a"]}, {"models": ["b"]}], "negajoule.toml")
    assert math.isfinite(read_limit("500 gCO2e/h").amount)
