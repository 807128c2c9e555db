# Cuts novels into passages: whole sentences of at least 520 bytes, each a document. Lines that are wrapped are joined.
# LC_ALL=C awk -f passages.awk NOVEL.txt... > passages.jsonl
function out() {
  gsub(/[ \t]+/, " ", text); sub(/^ /, "", text)
  if (length(text) >= 520) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); print "{\"text\": \"" text "\"}" }
  text = ""
}
FNR == 1 { text = "" }
{ gsub(/[\001-\037]/, " "); text = text " " $0
  if (length(text) >= 520 && $0 ~ /[.!?]["')\]]*[ ]*$/) out() }
