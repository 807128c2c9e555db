# Made texts with needles of one letter, and questions about them.
#   awk -v kind=train -v seed=1 -v rows=60000 -v size=127 -f needles.awk > train.jsonl
#   awk -v kind=needle -v seed=2 -v rows=400 -v size=127 -f needles.awk > needle.jsonl
#   awk -v kind=multi -v seed=3 -v rows=100 -v size=127 -f needles.awk > multi.jsonl
# Eight kinds of needles, six letters each; a text hides one of each kind between marks that mean nothing. The kind's digit asks
# for it, and the letter comes again. In texts to train on, questions stand anywhere behind their needles; else at the end: one,
# about a needle at a tenth of the length by the row's number, or four in a row, about needles anywhere, right answers given.
function random(n) { state = state * 16807 % 2147483647; return int(state / 2147483647 * n) } # the same in every awk
function free(from, to,    at) { do at = from + random(to - from); while (at in token); return at }
function text(to,    i, all) {
  all = ""
  for (i = 0; i < to; i++) all = all (i in token ? token[i] : substr(".,;-", 1 + random(4), 1))
  return all
}
BEGIN {
  LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  state = 100003 + seed
  for (i = 0; i < 20; i++) random(2)
  for (row = 0; row < rows; row++) {
    split("", token)
    for (k = 0; k < 8; k++) needle[k] = substr(LETTERS, 1 + 6 * k + random(6), 1)
    if (kind == "train") {
      for (k = 0; k < 8; k++) {
        do { asked = random(size - 2) + 1 } while (asked in token || asked + 1 in token)
        token[asked] = k; token[asked + 1] = needle[k]
        do { at = random(asked); tries++ } while (at in token && tries % 50)
        if (at in token) { delete token[asked]; delete token[asked + 1] } else token[at] = needle[k]
      }
      print "{\"text\": \"" text(size) "\"}"
      continue
    }
    questions = kind == "needle" ? 1 : 4
    end = size - 2 * questions + 1
    first = random(8)
    for (k = 0; k < 8; k++) {
      if (kind == "needle" && k == 0) { at = int((row % 10 + 0.5) / 10 * (end - 1)) } else at = free(0, end - 1)
      token[at] = needle[(first + k) % 8]
    }
    all = text(end - 1)
    for (q = 0; q < questions; q++) {
      k = (first + q) % 8
      all = all k
      group = questions == 1 ? "depth " (row % 10) / 10 : "question " q + 1
      print "{\"context\": \"" all "\", \"answer\": \"" needle[k] "\", \"group\": \"" size + 1 " tokens, " group "\"}"
      all = all needle[k]
    }
  }
}
