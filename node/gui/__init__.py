"""The node's web page: what its people do with data, plans and the agent, without a terminal.

Rendered on the server; htmx replaces parts of a page where a script may run, and every form and link works without it too. The page
holds no rule of its own about data, plans, policy or the agent: it calls `node.steward`, as the command line does.

How a page is made; `pages/overview.py` is the pattern to follow, `pages/people.py` that of a table with forms:

1. A module in `pages/` with plain functions `Visit -> Response`. They run on a thread, so they may block. They do what they do through
   `node.steward`, with `visit.home` and `visit.by`, and return `visit.show("x.html", ...)`, or `visit.go("/x", said=...)` after a
   change. A WarrenError need not be caught: the guard shows what happened and what to do, in place of the page or, for htmx, above it.
   Catch it only to show it beside the fields of a form, with `visit.show(..., status=422)` and what was typed.
2. A constant `AREA` that names each of its routes with the least role that may use it: `get("/x", Role.VIEWER, listing)`,
   `post("/x/remove", Role.MANAGER, remove)`. Only a post may change something. Add it to `AREAS` in `pages/__init__.py`: that
   puts it into the navigation and behind the guard. A route that is not in an area does not exist, and one in an area is closed to all
   below its role. Write the role down once more in `LEAST` of `tests/security/test_gui.py`, which tries all routes with all roles.
3. A template in `templates/` that extends `page.html`. Forms begin with `{% call form("/x/remove", token) %}` of `parts.html`, which
   carries the token against forged requests and lets htmx show a refusal in place. No inline script or style: the content security
   policy forbids them. Whatever is shown is escaped, and characters that hide are made visible; text of many lines goes through
   `|lines`, times through `|moment`, sizes through `|size`. What a role may not do is not offered: `{% if visit.may(Role.ADMIN) %}`.
4. Its strings in `texts/<area>.toml`, shown with `t("<area>.<key>", name=value)`. A missing one is an error, and a test finds those
   that nobody uses. What the navigation calls it is in `texts/nav.toml`, its icon in `templates/icons.html`.
5. Long tables go through `paging.slice_of` and the macro `pages`, so they show 50 rows at a time.
6. A part that follows what happens has an id and `{{ follows("/x", "#part", ["tasks"]) }}` of `parts.html` (topics are in `live.py`);
   the template then fills the block `live` as `overview.html` does. Such a request does not count as its person being there.

Tests call pages through `tests/support/page.py`.
"""
