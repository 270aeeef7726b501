"""The sign-in page: plain HTML, because whoever sees it may see nothing else yet."""

from labeling_ui.pages import STYLE, script


def page() -> str:
    """The whole page."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · rlhf label</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body class="rl-plain">
<main class="rl-door">
  <form class="rl-card" novalidate>
    <p class="rl-brand">rlhf <b>label</b></p>
    <h1>Sign in</h1>
    <label for="name">Name</label>
    <input id="name" name="name" autocomplete="username" autocapitalize="none" autofocus required>
    <label for="password">Password</label>
    <input id="password" name="password" type="password" autocomplete="current-password" required>
    <p class="rl-problem" role="alert"></p>
    <button type="submit" class="rl-main">Sign in</button>
  </form>
</main>
<script>{script("sign_in.js")}</script>
</body>
</html>
"""


def refused() -> str:
    """What somebody sees who may not open a page."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Not for you · rlhf label</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body class="rl-plain">
<main class="rl-door">
  <div class="rl-card">
    <p class="rl-brand">rlhf <b>label</b></p>
    <h1>This page is for admins</h1>
    <p><a href="/rate/">Go to rating</a></p>
  </div>
</main>
</body>
</html>
"""
