"""The page of 4,800 conversations: `python tests/bench/page.py DIR [--pictures]`.

Twelve runs of airline, retail and telecom, four attempts at each of the 100 test tasks: the four scripts, and eight
careless agents (`tests/careless.py`), whose tokens, log-probs and usage are made up. They are kept in DIR and played
once. Then the seconds, memory and bytes of `slime-tau2 report`, and in a headless Chromium: first contentful paint, the
time until the list can be used, of a filter, and of opening a conversation, and the CPU time that the page takes. With `--pictures` screenshots too: at 1400,
800 and 420 px, light and dark, in DIR; two of them are docs/report.png and docs/conversation.png.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

import careless
from chromium import BINARY, REASON, Chromium
from rich.console import Console

from slime_tau2 import bench
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import GoldUser
from slime_tau2.evaluation import report, runner
from slime_tau2.evaluation.plan import RunPlan, TaskSet

DOMAINS, ATTEMPTS = ("airline", "retail", "telecom"), 4
SKILLS = (0.3, 0.5, 0.65, 0.75, 0.82, 0.88, 0.94, 0.97)
NAMES = [*scripts.SCRIPTS, *(f"careless-{round(100 * skill)}" for skill in SKILLS)]
SIZES, THEMES = ((1400, 1000), (800, 1000), (420, 900)), ("light", "dark")


def run_one(name: str):
    async def one(world, task_id, seed):
        if name in scripts.SCRIPTS:
            agent = ScriptedAgent(scripts.script(name, world.task(task_id)))
            return await run_episode(world, task_id, agent, GoldUser(), seed=seed)
        return await careless.play(world, task_id, seed, int(name.partition("-")[2]) / 100)

    return one


async def play(directory: Path) -> list[Path]:
    """The runs, each in its directory; what is there is kept."""
    loaded = {domain: worlds.load(domain, retail_basis="communicate") for domain in DOMAINS}
    sets = tuple(TaskSet.of(world, "test") for world in loaded.values())
    for name in NAMES:
        settings = {"policy": name, "user": "gold", "retail_basis": "communicate"}
        settings |= {} if name in scripts.SCRIPTS else {"model": name, "user_model": "telling"}
        plan = RunPlan(sets=sets, attempts=ATTEMPTS, tau2=str(bench.VINTAGE.version), settings=settings)
        await runner.run(runner.Run(plan=plan, worlds=loaded, output=directory / name, run_one=run_one(name)))
    return [directory / name for name in NAMES]


def write(runs: list[Path], path: Path, directory: Path) -> None:
    prices = directory / "prices.yaml"
    prices.write_text(
        "\n".join(f"{name}: {{prompt: 0.4, cached: 0.1, completion: 1.6}}" for name in [*NAMES, "telling"])
    )
    started, cpu = time.perf_counter(), time.process_time()
    report.write(runs, path, prices, Console(file=open(os.devnull, "w")))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"load {os.getloadavg()[0]:.1f}; {len(NAMES) * ATTEMPTS * 100} conversations: page written in {seconds:.1f} s "
        f"({cpu:.1f} s of CPU), {peak:.0f} MiB at most, {path.stat().st_size / 1e6:.1f} MB"
    )


async def look(path: Path) -> None:
    """Print what a reader waits for."""
    paints, ready, spent, filters, opening = [], [], [], [], []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as profile:
            async with Chromium(Path(profile)) as chrome:
                await chrome.call("Performance.enable", timeDomain="threadTicks")
                await chrome.open(path)
                await chrome.until("Report.ready && document.querySelector('#curves canvas')")
                metrics = (await chrome.call("Performance.getMetrics"))["metrics"]
                spent += [1000 * metric["value"] for metric in metrics if metric["name"] == "TaskDuration"]
                paints.append(await chrome.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                ready.append(await chrome.run("Report.ready"))
                for field, value in (
                    ("outcome", "lost"),
                    ("failure", "wrong argument"),
                    ("outcome", ""),
                    ("failure", ""),
                ):
                    filters.append(await chrome.run(CHANGE.format(field, value)))
                opening += [await chrome.run(OPEN.format(n)) for n in range(0, 4800, 480)]
                heap = await chrome.run("performance.memory.usedJSHeapSize / 1e6")
    print(
        f"load {os.getloadavg()[0]:.1f}; median (most) of {len(ready)} openings: first contentful paint {told(paints)}, "
        f"list usable {told(ready)}, CPU of the page's thread until all is drawn {told(spent)}, a filter {told(filters)}, opening a conversation {told(opening)}; heap {heap:.0f} MB"
    )


CHANGE = """new Promise(done => {{ const e = document.getElementById('{0}'); e.value = '{1}'; const t = performance.now();
 e.dispatchEvent(new Event('change')); requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))); }})"""
OPEN = "(async () => {{ const t = performance.now(); await Report.show({}); return performance.now() - t; }})()"


def told(times: list[float]) -> str:
    return f"{median(times):.0f} ms ({max(times):.0f})"


FIRST_LOST = "Report.talks.findIndex(t => t.failure === 'wrong argument' && t.faults.length && t.run > 5)"
VIEWS = {
    "top": "scrollTo(0, 0)",
    "table": "document.querySelector('.wide').scrollTop = 900",
    "curves": "document.getElementById('curves').scrollIntoView()",
    "tasks": "(document.getElementById('tasks').open = true, document.getElementById('tasks').scrollIntoView())",
    "list": "document.getElementById('conversations').scrollIntoView()",
    "conversation": f"Report.show({FIRST_LOST}).then(() => document.getElementById('viewer').scrollIntoView())",
    "two": "Report.beside().then(() => document.getElementById('viewer').scrollIntoView())",
}
IN_DOCS = {"1400-light-top": "report", "1400-light-conversation": "conversation"}


async def pictures(path: Path, directory: Path) -> None:
    """Each view at each size in both themes, as PNG; those that the docs show go there."""
    with tempfile.TemporaryDirectory() as profile:
        async with Chromium(Path(profile)) as chrome:
            for (width, height), theme in ((size, theme) for size in SIZES for theme in THEMES):
                await chrome.look(width, height, dark=theme == "dark")
                await chrome.open(path)
                await chrome.until("Report.ready && document.querySelector('#curves canvas')")
                for name, how in VIEWS.items():
                    await chrome.run(how)
                    await chrome.run("new Promise(done => setTimeout(done, 250))")
                    picture = directory / f"{width}-{theme}-{name}.png"
                    await chrome.screenshot(picture)
                    if picture.stem in IN_DOCS:
                        shutil.copy(picture, HERE.parents[1] / "docs" / f"{IN_DOCS[picture.stem]}.png")


async def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    runs = await play(directory)
    write(runs, directory / "report.html", directory)
    if BINARY is None:
        raise SystemExit(f"the rest is not measured: {REASON}")
    await look(directory / "report.html")
    if "--pictures" in sys.argv[2:]:
        await pictures(directory / "report.html", directory)


if __name__ == "__main__":
    asyncio.run(main())
