"""The page in a real browser, as a person uses it."""

from __future__ import annotations

import re

import pytest

from rocinante.tokens import Tokens
from tests.browser.conftest import Page
from tests.browser.demo import FLOWS, HOSTILE, DemoNode, make_flows
from tests.support.keyrings import NEW, OLD
from tests.support.tools import requires

pytestmark = requires("chromium", "chromedriver")


def test_the_overview_shows_the_nodes_and_what_they_do(page: Page) -> None:
    page.open()
    page.sees("health-text", "Healthy: node1 leads in term 2, 3 of 3 connected.")
    page.until(lambda: page.count(".node") == 3, "three nodes")
    assert page.count(".node.leads") == 1
    page.sees("nodes", "127.0.0.1:35003")
    page.sees("link", "Live")
    assert page.run("return document.querySelector('.node:nth-child(2) a').href") == "http://127.0.0.1:8002/"

    def rate() -> object:
        """Of the last second or two: a busy browser may look only now and then."""
        page.node.put_flows(make_flows(2000, seed=3))
        return re.search(r"[1-9]", page.run("return document.querySelector('.tile.flows strong').innerText"))

    page.until(rate, "a flow rate")
    page.sees("tiles", f"{page.node.state.flows_count():,} in the table")
    assert "node1 in test" in page.driver.title
    assert page.console() == []


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (lambda node: node.away.add("node3"), "Degraded: node1 leads in term 2, 2 of 3 connected. node3 is cut off"),
        (DemoNode.be_not_ready, "Not ready: node1 takes no part in the cluster (replaying the log)."),
        (DemoNode.be_without_leader, "No leader in term 2: 3 of 3 connected"),
        (lambda node: setattr(node, "storage", "memory"), "Healthy"),
    ],
    ids=["cut off", "not ready", "no leader", "memory"],
)
def test_trouble_is_said_in_words(page: Page, trouble, says: str) -> None:  # type: ignore[no-untyped-def]
    page.open()
    trouble(page.node)
    page.sees("health-text", says)
    if page.node.storage == "memory":
        page.sees("notices", "Memory storage: this node keeps nothing on disk.")
    if page.node.away:
        page.until(lambda: page.count(".node.away") == 1, "one node marked as away")


def test_a_node_that_does_not_answer_is_shown_as_such(page: Page) -> None:
    page.open()
    page.sees("link", "Live")
    page.server.stop()
    page.sees("link", "Not reachable")
    page.sees("health-text", "Not reachable: node1 has not answered for")
    page.until(lambda: page.run("return document.getElementById('act-transfer').disabled"), "it offers nothing")


def test_without_a_free_stream_the_page_polls(page: Page) -> None:
    taken = [page.server._context.take_stream(lambda: None) for _ in range(16)]
    page.open()
    page.sees("link", "Polling")
    page.sees("notices", "All live streams of this node are taken")
    assert page.console("429") == []
    for give_back in taken:
        give_back()


def test_flows_are_searched_by_the_node_and_paged(page: Page) -> None:
    page.open("flows")
    page.sees("flows-sub", f"{FLOWS} in the table")
    page.sees("flows-range", "1 to 50")
    page.click("#flows-next")
    page.sees("flows-range", "51 to 100")
    page.type("[name=address]", "10.1.0.0/16")
    page.click("#flows-form .primary")
    page.until(lambda: page.count("#flows-rows tr") < 50, "fewer rows")
    sources = page.run("return [...document.querySelectorAll('#flows-rows tr')].map((r) => r.children[1].innerText)")
    assert sources
    assert all(source.startswith("10.1.") for source in sources)
    page.click(".chip.state-syn_sent")
    page.until(
        lambda: page.run(
            "return [...document.querySelectorAll('#flows-rows .state')].every((s) => s.innerText === 'syn sent')"
        ),
        "syn sent",
    )
    page.type("[name=address]", "10.1.0.0/99")
    page.click("#flows-form .primary")
    page.sees("flows-error", "10.1.0.0/99")
    page.click("#flows-clear")
    page.sees("flows-range", "1 to 50")
    assert page.console("400") == []


def test_a_flow_is_looked_at_and_deleted(page: Page) -> None:
    page.open("flows")
    page.click("#flows-rows tr:first-child button")
    page.sees("dialog", "10.0.0.1:32768")
    page.click("#dialog .danger")
    page.sees("toasts", "The record is deleted")
    page.sees("flows-sub", f"{FLOWS - 1} in the table")


def test_a_key_is_made_edited_and_deleted(page: Page) -> None:
    page.open("keys")
    page.sees("keys-list", "services/")
    page.click("#keys-new")
    page.type("#dialog [name=key]", "fleet/a b/ñ?#")
    page.type("#dialog [name=value]", "one")
    page.click("#dialog .primary")
    page.sees("keys-editor", "fleet/a b/ñ?#")
    page.sees("keys-list", "fleet/")
    page.type("#value", "two")
    page.click("#key-save")
    page.sees("toasts", "Saved.")
    page.until(lambda: page.run("return document.getElementById('value').value") == "two", "the new value")
    page.node.put("fleet/a b/ñ?#", b"by somebody else")
    page.type("#value", "three")
    page.click("#key-save")
    page.sees("toasts", "somebody else changed this key meanwhile")
    page.click("#key-delete")
    page.sees("dialog", "Delete this key?")
    page.click("#dialog .danger")
    page.sees("toasts", "Deleted.")
    page.until(lambda: "fleet/" not in page.text("keys-list"), "fleet/ gone")
    assert page.console("409") == []


def test_a_key_is_found_by_its_prefix(page: Page) -> None:
    page.open("keys")
    page.click_text(".folder", "services/")
    page.click_text(".folder", "web/")
    page.click_text(".folder", "007/")
    page.click_text(".key", "weight")
    page.sees("keys-editor", "services/web/007/weight")
    page.click_text("#keys-crumbs button", "all keys")
    page.type("#keys-prefix", "mot")
    page.click("#keys-form button")
    page.click_text(".key", "d")
    page.until(lambda: "Don Quijote" in page.run("return document.getElementById('value')?.value ?? ''"), "the value")


def test_hostile_names_are_inert(page: Page) -> None:
    page.open("flows")
    page.type("[name=port]", "40000,32777")
    page.click("#flows-form .primary")
    page.sees("flows-rows", "<img src=x")
    page.open("keys")
    page.click_text(".folder", "<img src=x")
    page.click_text(".folder", "../")
    page.click_text(".key", "..?#%00")
    page.sees("keys-editor", HOSTILE)
    page.until(lambda: page.run("return document.getElementById('value')?.value") == HOSTILE, "the value")
    page.click("#key-delete")
    page.sees("dialog", HOSTILE)
    assert page.run("return window.pwned") is None
    assert page.count("main img, dialog img") == 0
    assert page.console() == []


def test_leadership_is_handed_over_after_a_question(page: Page) -> None:
    page.open()
    page.click("#act-transfer")
    page.sees("dialog", "Hand over leadership?")
    page.click("#dialog button[type=button]")
    assert page.node.leader == page.node.member.id
    page.click("#act-transfer")
    page.find("#dialog select").send_keys("node3")
    page.click("#dialog .primary")
    page.sees("toasts", "node3 leads now.")
    page.sees("health-text", "node3 leads in term 3")
    page.until(lambda: "node3" in page.run("return document.querySelector('.node.leads').innerText"), "node3 marked")


def test_grpc_is_switched_off_and_on_after_a_question(page: Page) -> None:
    page.open()
    page.click("#act-grpc")
    page.sees("dialog", "Switch gRPC off for node1?")
    assert page.node.status().grpc_enabled
    page.click("#dialog .danger")
    page.sees("health-text", "Not ready: node1 takes no part in the cluster (gRPC is switched off).")
    page.until(lambda: "Switch gRPC on" in page.text("act-grpc"), "the way back")
    page.click("#act-grpc")
    page.click("#dialog .primary")
    page.sees("health-text", "Healthy")
    assert page.node.status().grpc_enabled


def test_what_fails_is_said_in_the_dialog(page: Page) -> None:
    page.open()
    page.click("#act-transfer")
    page.node.be_without_leader()
    page.click("#dialog .primary")
    page.sees("dialog", "no leader within the time")


def test_a_snapshot_is_taken(page: Page) -> None:
    page.open()
    page.click("#act-snapshot")
    page.sees("toasts", "Snapshot at index")


def test_the_log_shows_the_last_entries(page: Page) -> None:
    page.open("log")
    page.sees("log-rows", "kv_put")
    page.node.put("late", b"")
    index = page.node.status().applied
    page.sees("log-rows", f"{index:,}")
    page.click("#log-committed")
    page.sees("log-sub", f"committed up to {index:,}")
    assert page.console() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(page: Page, theme: str) -> None:
    colour = "return getComputedStyle(document.documentElement).getPropertyValue('--page')"
    own, other = ("#f4f5f7", "#0f1318") if theme == "light" else ("#0f1318", "#f4f5f7")
    page.open(theme=theme)
    assert page.run(colour) == own
    page.click("#theme")
    assert page.run(colour) == other
    page.driver.refresh()
    page.sees("health-text", "Healthy")
    assert page.run(colour) == other
    page.run("localStorage.clear()")
    assert page.console() == []


HIDE = """
Object.defineProperty(document, "hidden", {value: arguments[0], configurable: true});
document.dispatchEvent(new Event("visibilitychange"));
"""
CONTRAST = """
const luminance = (colour) => {
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
  }
};
return [...document.querySelectorAll("body *")].filter((e) =>
  e.checkVisibility() && !e.disabled && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((e) => {
  const [one, two] = [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((a, b) => b - a);
  return [((one + 0.05) / (two + 0.05)), e.innerText.slice(0, 30), e.className];
}).filter(([ratio]) => ratio < 4.5);
"""
UNNAMED = """
return [...document.querySelectorAll("button, input, select, textarea, a")].filter((e) => e.checkVisibility() &&
  !(e.innerText?.trim() || e.getAttribute("aria-label") || e.labels?.length)).map((e) => e.outerHTML.slice(0, 80));
"""


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (1400, "dark"), (420, "light"), (420, "dark")])
def test_every_view_fits_is_legible_and_named(page: Page, width: int, theme: str) -> None:
    for view, ready in (
        ("", ".node"),
        ("flows", "#flows-rows tr"),
        ("keys", "#keys-list .key"),
        ("log", "#log-rows tr"),
    ):
        page.open(view, width=width, theme=theme)
        page.find(ready)
        if view == "keys":
            page.click_text(".key", "binary")
            page.find("#key-delete")
        assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
        assert page.run(CONTRAST) == [], view
        assert page.run(UNNAMED) == [], view
    assert page.console() == []


def test_the_page_is_used_by_keyboard(page: Page) -> None:
    page.open()
    assert page.run("return [...document.querySelectorAll('h1')].filter((e) => e.checkVisibility()).length") == 1
    page.find("#act-grpc").send_keys("\ue007")  # Enter
    page.sees("dialog", "Switch gRPC off")
    assert page.run("return document.getElementById('dialog').contains(document.activeElement)")
    page.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown'))")
    page.driver.switch_to.active_element.send_keys("\ue00c")  # Escape
    page.until(lambda: not page.run("return document.getElementById('dialog').open"), "the dialog closed")
    assert page.run("return document.activeElement.id") == "act-grpc"
    assert page.node.status().grpc_enabled


def test_a_hidden_page_gives_its_stream_back(page: Page) -> None:
    page.open()
    page.sees("link", "Live")
    page.until(lambda: page.node.watchers == 1, "one watcher")
    page.run(HIDE, True)
    page.until(lambda: page.node.watchers == 0, "no watcher")
    page.run(HIDE, False)
    page.until(lambda: page.node.watchers == 1, "one watcher again")


def test_no_other_host_is_asked(page: Page) -> None:
    page.open("flows")
    page.find("#flows-rows tr")
    names = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(names) > 10
    assert [name for name in names if not name.startswith(page.url)] == []


def test_the_token_for_which_the_browser_asked_is_sent_along_and_may_be_taken_away(page: Page) -> None:
    keyring = page.server._context.keyring
    keyring.tokens = Tokens(accepted=(OLD,), anonymous=False)
    own = page.url
    page.driver.get(own)
    assert page.count("#health-text") == 0, "the page itself asks for a token"
    answered = own.replace("//", f"//anybody:{OLD}@")  # as if in the browser's dialog
    page.driver.get(answered)
    page.open()
    page.sees("link", "Live")
    page.open("flows")
    page.sees("flows-sub", f"{FLOWS} in the table")
    page.open("log")
    page.until(lambda: page.count("#log-rows tr") > 0, "the log")

    page.open()
    page.sees("link", "Live")
    keyring.tokens = Tokens(accepted=(NEW,), anonymous=False)
    page.server.end_streams()
    page.sees("link", "Not let in")
    page.sees("health-text", "the access tokens have changed")
    assert page.run("return document.getElementById('act-transfer').disabled")
    keyring.tokens = Tokens(accepted=(NEW, OLD), anonymous=False)
    page.driver.get(answered)
    page.open()
    page.sees("link", "Live")
    assert page.console("401") == []
