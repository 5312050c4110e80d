"""Plans that start very many threads."""

import threading


def attack_start_very_many_threads(facts):
    threading.stack_size(2**16)  # so small that memory is not what stops them
    end = threading.Event()
    started = []
    try:
        for _ in range(40):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    finally:
        end.set()
        for thread in started:
            thread.join()
    return len(started)
