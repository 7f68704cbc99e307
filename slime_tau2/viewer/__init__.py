"""What pages that a person reads are made of: one file, no network, large data compressed and unpacked when looked at.

`document` puts a page together, `blocks` packs its data, `talk` says what the conversation view reads. Beside them the
pieces that run in the browser: `blocks.js` (unpacks), `list.js` (long lists, by Tabulator), `charts.js` (curves, by
uPlot), `talk.js` (a conversation). What was said reaches a page as compressed data that becomes text nodes, or through
the template's escaping; it is never markup.
"""
