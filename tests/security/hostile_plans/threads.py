"""Plans that start very many threads."""

import threading


def attack_start_very_many_threads(facts):
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
