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

  /// Task 5 of `srun --ntasks=16` in an allocation of as many.
  private static final Map<String, String> STEP =
      Map.ofEntries(
          Map.entry("SLURM_JOB_ID", "4712"),
          Map.entry("SLURM_STEP_ID", "0"),
          Map.entry("SLURM_STEP_NUM_TASKS", "16"),
          Map.entry("SLURM_STEP_TASKS_PER_NODE", "2(x2),7,5"),
          Map.entry("SLURM_STEP_NODELIST", "gpu[007-010]"),
          Map.entry("SLURM_PROCID", "5"),
          Map.entry("SLURM_LOCALID", "1"),
          Map.entry("SLURM_NODEID", "2"),
          Map.entry("SLURM_NTASKS", "16"),
          Map.entry("SLURM_JOB_NODELIST", "gpu[007-010]"));

  @Test
  void slurm() {
    assertEquals(
        new Ranks(5, 16, 1, 7, "gpu007", Ranks.DEFAULT_PORT, false, 0, null), Ranks.of(STEP));
    assertTrue(Ranks.of(with(STEP, "SLURM_PROCID", "0")).serves());
    assertEquals("head", Ranks.of(with(STEP, "MASTER_ADDR", "head")).masterAddress());
    assertEquals(2, Ranks.of(with(STEP, "SLURM_NODEID", "1")).localWorldSize());
    assertEquals(0, Ranks.of(without(STEP, "SLURM_NODEID")).localWorldSize());
    // a task that Slurm gives cores of its own shares them with nobody
    assertEquals(0, Ranks.of(with(STEP, "SLURM_CPUS_PER_TASK", "8")).localWorldSize());
    // torchrun inside of Slurm: its variables are the ranks'
    var both = new HashMap<>(STEP);
    both.putAll(TORCHRUN);
    assertEquals(3, Ranks.of(both).rank());
    assertTrue(Ranks.of(with(STEP, "RANK", "0", "WORLD_SIZE", "1")).isAlone());
  }

  /// What `srun` starts inside of an allocation is as large as it says itself.
  @Test
  void aStepIsNotItsAllocation() {
    // srun --overlap --ntasks=2 --nodelist=gpu009 in an allocation of 16 tasks
    var two =
        with(
            STEP,
            "SLURM_STEP_ID",
            "3",
            "SLURM_STEP_NUM_TASKS",
            "2",
            "SLURM_STEP_TASKS_PER_NODE",
            "2",
            "SLURM_STEP_NODELIST",
            "gpu009",
            "SLURM_PROCID",
            "1",
            "SLURM_NODEID",
            "0",
            "SLURM_NTASKS_PER_NODE",
            "4");
    assertEquals(
        new Ranks(1, 2, 1, 2, "gpu009", Ranks.DEFAULT_PORT, false, 0, null), Ranks.of(two));
    // srun --ntasks=1, with and without --preserve-env
    var one = with(STEP, "SLURM_STEP_NUM_TASKS", "1", "SLURM_PROCID", "0", "SLURM_LOCALID", "0");
    assertTrue(Ranks.of(one).isAlone());
    assertTrue(Ranks.of(with(one, "SLURM_NTASKS", "1")).isAlone());
    // a step may have more tasks than its allocation: srun --overcommit
    assertEquals(16, Ranks.of(with(STEP, "SLURM_NTASKS", "4")).worldSize());
    // where a Slurm does not say how large the step is
    assertEquals(16, Ranks.of(without(STEP, "SLURM_STEP_NUM_TASKS")).worldSize());
  }

  private static Map<String, String> without(Map<String, String> base, String name) {
    var changed = new HashMap<>(base);
    changed.remove(name);
    return changed;
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
    assertEquals(first, Ranks.firstHost("SLURM_JOB_NODELIST", list));
  }

  @Test
  void aloneWhereNothingSaysOtherwise() {
    assertTrue(Ranks.of(Map.of()).isAlone());
    assertTrue(Ranks.of(with(TORCHRUN, "RANK", "0", "WORLD_SIZE", "1")).isAlone());
    // the shell of an allocation that has no step for it
    assertTrue(Ranks.of(Map.of("SLURM_NTASKS", "4", "SLURM_JOB_ID", "1")).isAlone());
    // a batch script is no task
    assertTrue(Ranks.of(Map.of("SLURM_PROCID", "0", "SLURM_NTASKS", "4")).isAlone());
    assertTrue(Ranks.of(with(TORCHRUN, "RANK", " ", "WORLD_SIZE", "")).isAlone());
  }

  /// Shells and scripts are steps with numbers of their own: interactive, batch, external, and one
  /// that waits for a number.
  @ParameterizedTest
  @CsvSource({"4294967290", "4294967291", "4294967292", "4294967293", "4294967281"})
  void shellsAndScriptsAreOneProcess(String step) {
    var shell =
        Map.of(
            "SLURM_STEP_ID", step,
            "SLURM_PROCID", "0",
            "SLURM_LOCALID", "0",
            "SLURM_NTASKS", "4",
            "SLURM_NTASKS_PER_NODE", "4",
            "SLURM_JOB_NODELIST", "node01");
    assertTrue(Ranks.of(shell).isAlone());
    assertTrue(Ranks.of(with(shell, "SLURM_STEP_NUM_TASKS", "1")).isAlone());
    String message = refused(with(shell, "SLURM_STEP_NUM_TASKS", "4"));
    assertTrue(message.contains(step) && message.contains("SLURM_STEP_NUM_TASKS is 4"), message);
    assertTrue(message.contains("srun"), message);
  }

  private static String refused(Map<String, String> environment) {
    return assertThrows(InvalidInputException.class, () -> Ranks.of(environment)).getMessage();
  }

  @ParameterizedTest
  @CsvSource({
    "SLURM_PROCID, 16, SLURM_PROCID is 16",
    "SLURM_PROCID, 16, SLURM_STEP_NUM_TASKS is 16",
    "SLURM_PROCID, -1, SLURM_PROCID is '-1'",
    "SLURM_STEP_NUM_TASKS, 0, SLURM_STEP_NUM_TASKS is '0'",
    "SLURM_STEP_NUM_TASKS, 5, SLURM_STEP_NUM_TASKS is 5",
    "SLURM_STEP_NUM_TASKS, 1, SLURM_STEP_NUM_TASKS is 1",
    "SLURM_STEP_NUM_TASKS, many, SLURM_STEP_NUM_TASKS is 'many'",
    "SLURM_STEP_NUM_TASKS, 99999999999, SLURM_STEP_NUM_TASKS is '99999999999'",
    "SLURM_STEP_ID, batch, SLURM_STEP_ID is 'batch'",
    "SLURM_STEP_ID, -6, SLURM_STEP_ID is '-6'",
    "SLURM_STEP_ID, 4294967296, SLURM_STEP_ID is '4294967296'",
    "SLURM_LOCALID, 7, 'SLURM_LOCALID is 7, but ranks count from 0 and SLURM_STEP_TASKS_PER_NODE'",
    "SLURM_LOCALID, first, SLURM_LOCALID is 'first'",
    "SLURM_STEP_TASKS_PER_NODE, 2(x, SLURM_STEP_TASKS_PER_NODE is '2(x'",
    "SLURM_STEP_NODELIST, 'gpu[', SLURM_STEP_NODELIST is 'gpu['",
    "MASTER_PORT, 0, MASTER_PORT is '0'"
  })
  void nonsenseOfSlurmIsNamed(String name, String value, String expected) {
    String message = refused(with(STEP, name, value));
    assertTrue(message.contains(expected), message);
    assertTrue(message.contains("; "), message);
    assertFalse(message.contains("WORLD_SIZE to train"), message);
  }

  @ParameterizedTest
  @CsvSource({
    "RANK, 8, RANK is 8",
    "RANK, 8, WORLD_SIZE is 8",
    "RANK, -1, RANK is '-1'",
    "LOCAL_RANK, 2, LOCAL_WORLD_SIZE is 2",
    "LOCAL_WORLD_SIZE, none, LOCAL_WORLD_SIZE is 'none'",
    "TORCHELASTIC_RESTART_COUNT, -1, TORCHELASTIC_RESTART_COUNT is '-1'",
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
