"""Real processes: forked, replaced, orphaned, killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from trees import write

from negajoule.meter import process_tree
from negajoule.meter.process_tree import ProcessTree, adopt_orphans, reap_orphans
from negajoule.meter.usage import MachineUsage, PortableTree, tree_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

SPIN = "import time; all(iter(lambda: time.process_time() < {seconds}, False))"


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def run(code):
    return subprocess.Popen([sys.executable, "-S", "-c", textwrap.dedent(code)])


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_own_work_is_counted():
    tree = ProcessTree()
    before = tree.read()
    spin(0.05)
    after = tree.read()
    assert 0.05 <= after.cpu_s - before.cpu_s < 0.1
    assert after.resident_bytes > 1e6
    assert os.getpid() in tree.pids()


def test_a_reaped_child_is_counted_once():
    tree = ProcessTree()
    before = tree.read()
    own = time.process_time()
    child = run(SPIN.format(seconds=0.3))
    wait_until(lambda: tree.read().cpu_s - before.cpu_s > 0.1)
    child.wait()
    after = tree.read()
    own = time.process_time() - own
    assert 0.3 <= after.cpu_s - before.cpu_s - own < 0.55
    assert after.passing_bytes > 1e6
    assert tree.read().passing_bytes == 0


def test_a_living_child_is_counted_before_it_ends():
    tree = ProcessTree(only_descendants=True)
    before = tree.read()
    child = run(SPIN.format(seconds=30))
    try:
        assert wait_until(lambda: tree.read().cpu_s - before.cpu_s > 0.1)
        assert child.pid in tree.pids()
        assert tree.read().resident_bytes > 1e6
        last = 0.0
        for _ in range(50):
            now = tree.read().cpu_s
            assert now >= last
            last = now
    finally:
        child.kill()
        child.wait()
    assert tree.read().cpu_s >= last
    assert child.pid not in tree.pids()


def test_only_descendants_leaves_the_root_out():
    tree = ProcessTree(only_descendants=True)
    before = tree.read()
    spin(0.05)
    assert tree.read().cpu_s - before.cpu_s < 0.01


def test_grandchildren_and_exec_are_counted():
    tree = ProcessTree(only_descendants=True)
    before = tree.read()
    child = run(f"""
        import os, subprocess, sys
        code = {SPIN.format(seconds=0.1)!r}
        subprocess.run([sys.executable, "-S", "-c", code])
        os.execv(sys.executable, [sys.executable, "-S", "-c", code])
    """)
    while child.poll() is None:
        tree.read()
        time.sleep(0.02)
    assert 0.2 <= tree.read().cpu_s - before.cpu_s < 0.6


def test_a_killed_child_keeps_its_time():
    tree = ProcessTree(only_descendants=True)
    before = tree.read()
    child = run(SPIN.format(seconds=30))
    wait_until(lambda: tree.read().cpu_s - before.cpu_s > 0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert tree.read().cpu_s - before.cpu_s > 0.1


def test_children_reaped_by_nobody_keep_what_was_seen():
    """With SIGCHLD ignored the kernel throws the time of children away."""
    code = f"""
        import signal, subprocess, sys, time
        from negajoule.meter.process_tree import ProcessTree
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        tree = ProcessTree(only_descendants=True)
        child = subprocess.Popen([sys.executable, "-S", "-c", {SPIN.format(seconds=0.2)!r}])
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
            usage = tree.read()
            if usage.cpu_s > 0.1 and not tree.pids():
                break
        print(tree.read().cpu_s)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert 0.1 < float(result.stdout) < 0.5


def test_an_orphan_is_followed_and_collected():
    code = f"""
        import subprocess, sys, time
        from negajoule.meter.process_tree import ProcessTree, adopt_orphans, reap_orphans
        assert adopt_orphans()
        tree = ProcessTree(only_descendants=True)
        parent = subprocess.Popen([sys.executable, "-S", "-c", '''if 1:
            import subprocess, sys
            subprocess.Popen([sys.executable, "-S", "-c", {SPIN.format(seconds=0.3)!r}])
        '''])
        parent.wait()
        first = tree.read().cpu_s
        living = reap_orphans(keep=parent.pid)
        end = time.monotonic() + 20
        while reap_orphans(keep=parent.pid) and time.monotonic() < end:
            tree.read()
            time.sleep(0.01)
        print(living, first, tree.read().cpu_s)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    living, first, last = map(float, result.stdout.split())
    assert living == 1
    assert first < last
    assert 0.3 <= last < 0.6


def test_another_process_can_be_the_root():
    child = run(SPIN.format(seconds=30))
    tree = ProcessTree(child.pid)
    try:
        assert wait_until(lambda: tree.read().cpu_s > 0.1)
        assert tree.read().resident_bytes > 1e6
    finally:
        child.kill()
        child.wait()
    assert tree.read().cpu_s > 0.1
    tree.close()


def test_a_root_that_isn_t_there_gives_zeros():
    child = run("pass")
    child.wait()
    usage = ProcessTree(child.pid).read()
    assert usage.resident_bytes == 0
    assert usage.cpu_s == 0.0


def test_without_the_kernel_s_lists_of_children_proc_is_walked(monkeypatch):
    real = process_tree.Path.read_bytes

    def no_lists(path):
        if path.name == "children":
            raise FileNotFoundError
        return real(path)

    monkeypatch.setattr(process_tree.Path, "read_bytes", no_lists)
    child = run(SPIN.format(seconds=30))
    tree = ProcessTree(only_descendants=True)
    try:
        assert wait_until(lambda: child.pid in (tree.read(), tree.pids())[1])
    finally:
        child.kill()
        child.wait()


def test_the_portable_tree_agrees():
    portable, linux = PortableTree(), ProcessTree()
    before = portable.read().cpu_s, linux.read().cpu_s
    spin(0.1)
    after = portable.read().cpu_s, linux.read().cpu_s
    assert after[0] - before[0] == pytest.approx(after[1] - before[1], abs=0.05)
    assert portable.read().resident_bytes > 1e6
    assert os.getpid() in portable.pids()


def test_tree_of_picks_linux_here():
    assert isinstance(tree_of(), ProcessTree)


def test_adopting_works_in_a_process_of_its_own():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if adopt_orphans() and reap_orphans(keep=0) == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_machine_time_leaves_idle_and_stolen_time_out(tmp_path):
    write(tmp_path, "proc/stat", "cpu  100 10 50 9000 300 5 5 700 0 0\ncpu0 1 2 3")
    machine = MachineUsage(tmp_path)
    assert machine.cpu_s() == pytest.approx(1.7)
    write(tmp_path, "proc/stat", "cpu  90 10 50 9000 300 5 5 700 0 0")
    assert machine.cpu_s() == pytest.approx(1.7)
    write(tmp_path, "proc/stat", "broken")
    assert machine.cpu_s() == pytest.approx(1.7)
    machine.close()


def test_machine_time_without_proc():
    machine = MachineUsage(process_tree.Path("/nonexistent"))
    assert machine.cpu_s() > 0
