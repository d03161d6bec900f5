import os

import pytest
from trees import CPUINFO, write

from negajoule.meter.host import cgroup_limits, read_host


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/cpuinfo", CPUINFO.format(extra="sse2"))
    write(tmp_path, "proc/meminfo", "MemTotal:       263856712 kB\nMemFree: 1 kB")
    write(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef")
    write(tmp_path, "proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555")
    return tmp_path


def test_bare_metal(root):
    host = read_host(root)
    assert host.cpu == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert (host.family, host.model) == (6, 106)
    assert host.threads_per_core == 2
    assert host.memory_bytes == 263856712 * 1024
    assert host.virtual is False
    assert host.boot_id == "11111111-2222-3333-4444-555555555555"


def test_hypervisor_flag_means_virtual(root):
    write(root, "proc/cpuinfo", CPUINFO.format(extra="hypervisor"))
    assert read_host(root).virtual is True


def test_the_machine_s_id_is_hashed(root):
    host = read_host(root)
    assert len(host.host_id) == 16
    assert "0123456789abcdef" not in host.host_id
    assert read_host(root).host_id == host.host_id


def test_arm_board_without_model_name(root):
    write(root, "proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd42\n")
    write(root, "sys/firmware/devicetree/base/model", "NVIDIA Jetson AGX Orin\0")
    write(root, "sys/class/dmi/id/sys_vendor", "QEMU")
    host = read_host(root)
    assert host.cpu == "NVIDIA Jetson AGX Orin"
    assert host.virtual is True
    assert host.family is None


def test_threads_per_core_from_topology(root):
    write(root, "proc/cpuinfo", "processor\t: 0\n")
    write(root, "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-3")
    assert read_host(root).threads_per_core == 4


def test_a_machine_without_any_of_it_still_has_a_host(tmp_path):
    host = read_host(tmp_path)
    assert host.threads >= 1
    assert host.memory_bytes > 0
    assert host.virtual is None


def test_cgroup_two_takes_the_tightest_of_all_levels(root):
    write(root, "proc/self/cgroup", "0::/kubepods/pod1/c1")
    write(root, "sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000")
    write(root, "sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000")
    write(root, "sys/fs/cgroup/kubepods/cpu.max", "800000 100000")
    write(root, "sys/fs/cgroup/kubepods/pod1/c1/memory.max", 2 * 2**30)
    write(root, "sys/fs/cgroup/kubepods/memory.max", "max")
    assert cgroup_limits(root) == (1.5, 2 * 2**30)


def test_cgroup_two_inside_a_container_sees_the_mount_only(root):
    write(root, "proc/self/cgroup", "0::/docker/abcdef")
    write(root, "sys/fs/cgroup/cpu.max", "50000 100000")
    assert cgroup_limits(root) == (0.5, None)


def test_cgroup_one(root):
    write(root, "proc/self/cgroup", "4:memory:/job\n2:cpu,cpuacct:/job\n1:cpuset:/")
    write(root, "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", 200000)
    write(root, "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", 100000)
    write(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", -1)
    write(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", 2**33)
    assert cgroup_limits(root) == (2.0, 2**33)


def test_no_limit_is_no_limit(root):
    write(root, "proc/self/cgroup", "4:memory:/\n2:cpu:/")
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
    write(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    host = read_host(root)
    assert host.quota_cpus is None
    assert host.memory_limit_bytes is None


@pytest.mark.parametrize("text", ["", "max", "garbage", "-1 100000", "100000 0", "100000"])
def test_malformed_limits_are_no_limits(root, text):
    write(root, "proc/self/cgroup", "0::/a")
    write(root, "sys/fs/cgroup/a/cpu.max", text)
    assert cgroup_limits(root) == (None, None)


def test_reservation_is_the_tightest_of_three(root, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    host = read_host(root)
    assert host.reserved_threads == 16
    assert host.reservation_is_explicit
    write(root, "proc/self/cgroup", "0::/a")
    write(root, "sys/fs/cgroup/a/cpu.max", "400000 100000")
    assert read_host(root).reserved_threads == 4
    assert host.physical_cores == 32
