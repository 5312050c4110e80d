"""Plans that go after files: each function returns what it gained, or raises."""

import os
from pathlib import Path


def attack_read_etc_passwd(facts):
    return len(Path("/etc/passwd").read_text())


def attack_read_the_key_of_the_node(facts):
    return Path(facts["key"]).read_text()


def attack_read_the_journal_of_the_node(facts):
    return Path(facts["journal"]).read_bytes()


def attack_list_the_other_data_sets(facts):
    return list(Path(facts["dataset"]).parent.iterdir())


def attack_read_another_data_set(facts):
    return Path(facts["other_dataset"]).read_text()


def attack_list_the_root(facts):
    return list(Path("/").iterdir())


def attack_read_the_key_through_the_root_of_this_process(facts):
    return Path(f"/proc/self/root{facts['key']}").read_text()


def attack_read_the_key_through_the_scratch_folder(facts):
    return Path(facts["scratch"], os.path.relpath(facts["key"], facts["scratch"])).read_text()


def attack_read_the_key_through_an_open_folder(facts):
    folder = os.open("/", os.O_PATH)
    return os.read(os.open(facts["key"].lstrip("/"), os.O_RDONLY, dir_fd=folder), 100)


def attack_read_the_key_through_a_symbolic_link(facts):
    link = Path(facts["scratch"], "symbolic")
    link.symlink_to(facts["key"])
    return link.read_text()


def attack_leave_a_symbolic_link_for_the_agent(facts):
    Path(facts["scratch"], "update").symlink_to(facts["key"])
    return "left"


def attack_leave_a_hard_link_for_the_agent(facts):
    Path(facts["scratch"], "hard").hardlink_to(facts["key"])
    return "left"


def attack_write_to_the_data_set_through_a_hard_link(facts):
    link = Path(facts["scratch"], "data")
    link.hardlink_to(facts["dataset"])
    with link.open("a") as file:
        return file.write("1,2\n")


def attack_leave_a_pipe_for_the_agent(facts):
    os.mkfifo(Path(facts["scratch"], "pipe"))
    return "left"


def attack_move_the_other_data_set_here(facts):
    target = Path(facts["scratch"], "moved")
    Path(facts["other_dataset"]).rename(target)
    content = target.read_text()
    target.rename(facts["other_dataset"])
    return content


def attack_write_outside(facts):
    return Path(facts["journal"]).with_name("planted").write_text("planted")


def attack_move_a_file_outside(facts):
    file = Path(facts["scratch"], "file")
    file.write_text("planted")
    file.rename(Path(facts["journal"]).with_name("moved"))
    return "moved"


def attack_change_the_data_set(facts):
    with Path(facts["dataset"]).open("r+b") as file:
        return file.write(b"a")


def attack_empty_the_victim_file_while_reading(facts):
    os.close(os.open(facts["victim_file"], os.O_RDONLY | os.O_TRUNC))
    return "empty"


def attack_empty_the_victim_file(facts):
    os.truncate(facts["victim_file"], 0)
    return "empty"


def attack_reopen_a_file_for_writing(facts):
    with Path(facts["dataset"]).open("rb") as file:
        return os.write(os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDWR), b"a")


def attack_remove_the_victim_file(facts):
    Path(facts["victim_file"]).unlink()
    Path(facts["victim_file"]).write_text("again")
    return "removed"


def attack_open_the_key_for_all(facts):
    Path(facts["key"]).chmod(0o644)
    return "open"


def attack_change_times(facts):
    os.utime(facts["journal"], (0, 0))
    return "changed"


def attack_mark_a_file(facts):
    os.setxattr(facts["journal"], "user.mark", b"1")
    return "marked"


def attack_watch_the_node(facts):
    from node.sandbox.libc import LIBC, syscall
    from node.sandbox.seccomp import machine
    from node.sandbox.syscalls import NUMBERS

    watcher = LIBC.inotify_init1(0)
    return syscall(NUMBERS[machine()]["inotify_add_watch"], watcher, facts["journal"].encode() + b"\0", 0xFFF)
