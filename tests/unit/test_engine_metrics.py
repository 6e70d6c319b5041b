"""An engine's counters as a scrape sees them."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from workers.engine_metrics import serve_engine_metrics
from workers.engines import GenerateRequest, Message
from workers.engines.factory import build_engine


def test_each_scrape_reads_the_engine_anew() -> None:
    engine = build_engine({"engine": "scripted", "model": "m"}, Path("unused"))
    registry = CollectorRegistry()
    serve_engine_metrics(engine.snapshot, registry)
    assert registry.get_sample_value("preceptor_engine_requests_total") == 0
    engine.generate([GenerateRequest((Message("user", "one two"),))])
    assert registry.get_sample_value("preceptor_engine_requests_total") == 1
    assert registry.get_sample_value("preceptor_engine_input_tokens_total") == 2
    assert b"# TYPE preceptor_engine_running gauge" in generate_latest(registry)
