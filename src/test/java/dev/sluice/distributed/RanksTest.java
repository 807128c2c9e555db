package dev.sluice.distributed;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RanksTest {
  private static final Map<String, String> TORCHRUN =
      Map.of(
          "RANK", "3",
          "WORLD_SIZE", "8",
          "LOCAL_RANK", "1",
          "LOCAL_WORLD_SIZE", "2",
          "MASTER_ADDR", "node01",
          "MASTER_PORT", "40000");

  private static Map<String, String> with(Map<String, String> base, String... pairs) {
    var changed = new HashMap<>(base);
    for (int i = 0; i < pairs.length; i += 2) {
      changed.put(pairs[i], pairs[i + 1]);
    }
    return changed;
  }

  @Test
  void torchrun() {
    assertEquals(new Ranks(3, 8, 1, 2, "node01", 40_000, false, 0, null), Ranks.of(TORCHRUN));
    assertTrue(Ranks.of(with(TORCHRUN, "RANK", "0")).serves());
    // torchrun's agent runs the server itself
    var agent = with(TORCHRUN, "RANK", "0", "TORCHELASTIC_USE_AGENT_STORE", "True");
    assertFalse(Ranks.of(agent).serves());
    assertEquals(2, Ranks.of(with(agent, "TORCHELASTIC_RESTART_COUNT", "2")).attempt());
    assertEquals("eth1", Ranks.of(with(TORCHRUN, "GLOO_SOCKET_IFNAME", "eth1")).networkInterface());
  }

  @Test
  void slurm() {
    var task =
        Map.of(
            "SLURM_PROCID", "5",
            "SLURM_NTASKS", "16",
            "SLURM_LOCALID", "1",
            "SLURM_STEP_ID", "0",
            "SLURM_JOB_NODELIST", "gpu[007-010,12],login");
    assertEquals(
        new Ranks(5, 16, 1, 0, "gpu007", Ranks.DEFAULT_PORT, false, 0, null), Ranks.of(task));
    assertEquals("head", Ranks.of(with(task, "MASTER_ADDR", "head")).masterAddress());
    // torchrun inside of Slurm: its variables are the ranks'
    var both = new HashMap<>(task);
    both.putAll(TORCHRUN);
    assertEquals(3, Ranks.of(both).rank());
  }

  @ParameterizedTest
  @CsvSource({
    "node01, node01",
    "'node01,node02', node01",
    "'node[03-07,9],other', node03",
    "'node[12]', node12",
    "'rack[1-2]-x,node1', rack1-x"
  })
  void firstHost(String list, String first) {
    assertEquals(first, Ranks.firstHost(list));
  }

  @Test
  void aloneWhereNothingSaysOtherwise() {
    assertTrue(Ranks.of(Map.of()).isAlone());
    assertTrue(Ranks.of(with(TORCHRUN, "RANK", "0", "WORLD_SIZE", "1")).isAlone());
    // a batch script is no task
    assertTrue(Ranks.of(Map.of("SLURM_PROCID", "0", "SLURM_NTASKS", "4")).isAlone());
  }

  @ParameterizedTest
  @CsvSource({
    "RANK, 8, 'rank 8 of 8'",
    "RANK, -1, 'rank -1 of 8'",
    "RANK, two, \"RANK is 'two'\"",
    "WORLD_SIZE, '', 'WORLD_SIZE is not set'",
    "MASTER_ADDR, '', 'MASTER_ADDR is not set'",
    "MASTER_PORT, 70000, 'MASTER_PORT is 70000'"
  })
  void nonsenseIsNamed(String name, String value, String expected) {
    String message =
        assertThrows(InvalidInputException.class, () -> Ranks.of(with(TORCHRUN, name, value)))
            .getMessage();
    assertTrue(message.contains(expected.replace("\"", "")), message);
  }
}
