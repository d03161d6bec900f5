"""``negajoule audit``: tables for people, JSON for programs."""

import json


def test_the_article_for_people_and_programs(nj):
    done = nj("audit", "--source", "article")
    assert done.returncode == 0, done.stderr
    assert "8b-fixed-50ms: implausible by floor of arithmetic: 3.83 J a request" in done.stdout
    assert "not checked, served or failed" in done.stdout
    assert "51.9 times; without what can't be: 5.71 times" in done.stdout
    data = json.loads(nj("audit", "--source", "article", "--json").stdout)
    assert data["schema"] == "negajoule.audit/1"
    assert len(data["implausible"]) == 4


def test_mistakes_get_one_message(nj, tmp_path):
    assert nj("audit").returncode == 2
    assert "C106" in nj("audit", str(tmp_path / "nowhere.csv")).stderr
