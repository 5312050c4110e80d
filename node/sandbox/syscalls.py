"""List the system calls that a worker does not get, and why."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, Literal

Machine = Literal["x86_64", "aarch64"]

LAST_KNOWN: Final = 456
"""Calls with higher numbers are newer than this list and do not exist for a worker; old kernels lack them too."""

X32: Final = 0x4000_0000
"""Bit of the second, 32-bit set of calls of x86_64."""

AUDIT_ARCH: Final[dict[Machine, int]] = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}

OWN: Final = -1
"""Stands for the worker's own process id among the values of a condition."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Compares the low 32 bits of one argument, after a mask, with some values.

    Attributes:
        call: The system call.
        argument: Position of the argument, from 0.
        values: What it is compared with.
        allowed: Whether these values are the only ones allowed, or the only ones refused.
        mask: Bits that count.
    """

    call: str
    argument: int
    values: tuple[int, ...]
    allowed: bool
    mask: int = 0xFFFF_FFFF


_NEW_PROCESSES: Final = ("fork", "vfork", "execve", "execveat", "setsid", "setpgid")
_SOCKETS: Final = ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4")
_OTHER_PROCESSES: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp"),
    *("pidfd_open", "pidfd_getfd", "pidfd_send_signal", "tkill", "move_pages", "migrate_pages"),
    *("sched_setscheduler", "sched_setparam", "sched_setattr", "setpriority", "ioprio_set"),
)
_NAMESPACES: Final = (
    *("unshare", "setns", "chroot", "pivot_root", "mount", "umount2", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
)
_KERNEL: Final = (
    *("bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module", "delete_module", "kexec_load"),
    *("kexec_file_load", "reboot", "swapon", "swapoff", "syslog", "acct", "quotactl", "quotactl_fd"),
    *("nfsservctl", "lookup_dcookie", "uselib", "iopl", "ioperm", "modify_ldt", "vhangup", "personality"),
    *("settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname", "setdomainname"),
    *("keyctl", "add_key", "request_key"),
)
_UNCOUNTED_MEMORY: Final = (
    *("memfd_create", "memfd_secret", "mq_open", "mq_unlink", "shmget", "shmat", "shmctl"),
    *("semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl"),
)
_FILES_BEYOND_LANDLOCK: Final = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("utime", "utimes", "futimesat", "utimensat", "truncate"),
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
    *("name_to_handle_at", "open_by_handle_at"),
    *("fanotify_init", "fanotify_mark", "inotify_init", "inotify_init1", "inotify_add_watch"),
)

FORBIDDEN: Final = (
    *_NEW_PROCESSES,
    *_SOCKETS,
    *_OTHER_PROCESSES,
    *_NAMESPACES,
    *_KERNEL,
    *_UNCOUNTED_MEMORY,
    *_FILES_BEYOND_LANDLOCK,
)
"""Answered with EPERM."""

ABSENT: Final = ("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register")
"""Answered with ENOSYS: their arguments lie in memory, where a filter cannot look; callers go back to the older calls."""

_O_TRUNC: Final = 0o1000
_TRUNCATING: Final = 0o1003  # O_TRUNC | O_ACCMODE
_CLONE_THREAD: Final = 0x1_0000
_MAP_SHARED_ANONYMOUS: Final = 0x21
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4

CONDITIONS: Final = (
    # threads, but no processes
    Condition("clone", 0, (_CLONE_THREAD,), allowed=True, mask=_CLONE_THREAD),
    # memory that RLIMIT_DATA does not count
    Condition("mmap", 3, (_MAP_SHARED_ANONYMOUS,), allowed=False, mask=_MAP_SHARED_ANONYMOUS),
    # emptying a file that is open to be read, which the first two versions of Landlock overlook
    Condition("open", 1, (_O_TRUNC, _TRUNCATING), allowed=False, mask=_TRUNCATING),
    Condition("openat", 2, (_O_TRUNC, _TRUNCATING), allowed=False, mask=_TRUNCATING),
    # signals to others: sent, or sent by the kernel when a file becomes ready
    Condition("kill", 0, (OWN,), allowed=True),
    Condition("tgkill", 0, (OWN,), allowed=True),
    Condition("rt_sigqueueinfo", 0, (OWN,), allowed=True),
    Condition("rt_tgsigqueueinfo", 0, (OWN,), allowed=True),
    Condition("fcntl", 1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX), allowed=False),
    # the same by ioctl; and typing into a terminal
    Condition("ioctl", 1, (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP), allowed=False),
    # limits and processors of others
    Condition("prlimit64", 0, (0, OWN), allowed=True),
    Condition("sched_setaffinity", 0, (0, OWN), allowed=True),
    # outliving the agent
    Condition("prctl", 0, (_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE), allowed=False),
)

REFUSED: Final = errno.EPERM
UNKNOWN: Final = errno.ENOSYS

_X86_64: Final = """
    open 2 mmap 9 ioctl 16 shmget 29 shmat 30 shmctl 31 socket 41 connect 42 accept 43 bind 49 listen 50 socketpair 53 clone 56
    fork 57 vfork 58 execve 59 kill 62 semget 64 semop 65 semctl 66 msgget 68 msgsnd 69 msgrcv 70 msgctl 71 fcntl 72 truncate 76
    link 86 symlink 88 chmod 90 fchmod 91 chown 92 fchown 93 lchown 94 ptrace 101 syslog 103 setpgid 109 setsid 112
    rt_sigqueueinfo 129 utime 132 mknod 133 uselib 134 personality 135 setpriority 141 sched_setparam 142 sched_setscheduler 144
    vhangup 153 modify_ldt 154 pivot_root 155 prctl 157 adjtimex 159 chroot 161 acct 163 settimeofday 164 mount 165 umount2 166
    swapon 167 swapoff 168 reboot 169 sethostname 170 setdomainname 171 iopl 172 ioperm 173 init_module 175 delete_module 176
    quotactl 179 nfsservctl 180 setxattr 188 lsetxattr 189 fsetxattr 190 removexattr 197 lremovexattr 198 fremovexattr 199 tkill 200
    sched_setaffinity 203 lookup_dcookie 212 semtimedop 220 clock_settime 227 tgkill 234 utimes 235 mq_open 240 mq_unlink 241
    kexec_load 246 add_key 248 request_key 249 keyctl 250 ioprio_set 251 inotify_init 253 inotify_add_watch 254 migrate_pages 256
    openat 257 mknodat 259 fchownat 260 futimesat 261 linkat 265 symlinkat 266 fchmodat 268 unshare 272 move_pages 279 utimensat 280
    accept4 288 inotify_init1 294 rt_tgsigqueueinfo 297 perf_event_open 298 fanotify_init 300 fanotify_mark 301 prlimit64 302
    name_to_handle_at 303 open_by_handle_at 304 clock_adjtime 305 setns 308 process_vm_readv 310 process_vm_writev 311 kcmp 312
    finit_module 313 sched_setattr 314 memfd_create 319 kexec_file_load 320 bpf 321 execveat 322 userfaultfd 323
"""
_AARCH64: Final = """
    setxattr 5 lsetxattr 6 fsetxattr 7 removexattr 14 lremovexattr 15 fremovexattr 16 lookup_dcookie 18 fcntl 25 inotify_init1 26
    inotify_add_watch 27 ioctl 29 ioprio_set 30 mknodat 33 symlinkat 36 linkat 37 umount2 39 mount 40 pivot_root 41 nfsservctl 42
    truncate 45 chroot 51 fchmod 52 fchmodat 53 fchownat 54 fchown 55 openat 56 vhangup 58 quotactl 60 utimensat 88 acct 89
    personality 92 unshare 97 kexec_load 104 init_module 105 delete_module 106 clock_settime 112 syslog 116 ptrace 117
    sched_setparam 118 sched_setscheduler 119 sched_setaffinity 122 kill 129 tkill 130 tgkill 131 rt_sigqueueinfo 138 setpriority 140
    reboot 142 setpgid 154 setsid 157 sethostname 161 setdomainname 162 prctl 167 settimeofday 170 adjtimex 171 mq_open 180
    mq_unlink 181 msgget 186 msgctl 187 msgrcv 188 msgsnd 189 semget 190 semctl 191 semtimedop 192 semop 193 shmget 194 shmctl 195
    shmat 196 socket 198 socketpair 199 bind 200 listen 201 accept 202 connect 203 add_key 217 request_key 218 keyctl 219 clone 220
    execve 221 mmap 222 swapon 224 swapoff 225 migrate_pages 238 move_pages 239 rt_tgsigqueueinfo 240 perf_event_open 241 accept4 242
    prlimit64 261 fanotify_init 262 fanotify_mark 263 name_to_handle_at 264 open_by_handle_at 265 clock_adjtime 266 setns 268
    process_vm_readv 270 process_vm_writev 271 kcmp 272 finit_module 273 sched_setattr 274 memfd_create 279 bpf 280 execveat 281
    userfaultfd 282 kexec_file_load 294
"""
_EVERYWHERE: Final = """
    pidfd_send_signal 424 io_uring_setup 425 io_uring_enter 426 io_uring_register 427 open_tree 428 move_mount 429 fsopen 430
    fsconfig 431 fsmount 432 fspick 433 pidfd_open 434 clone3 435 openat2 437 pidfd_getfd 438 process_madvise 440 mount_setattr 442
    quotactl_fd 443 memfd_secret 447 process_mrelease 448 fchmodat2 452
"""


def _table(*texts: str) -> dict[str, int]:
    words = " ".join(texts).split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


NUMBERS: Final[dict[Machine, dict[str, int]]] = {
    "x86_64": _table(_X86_64, _EVERYWHERE),
    "aarch64": _table(_AARCH64, _EVERYWHERE),
}
"""Numbers of the calls above; a call that a machine does not have is not in its table."""
