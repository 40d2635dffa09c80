"""Two weeks of KuaiRand-Pure as two parties' tables (CC BY-SA 4.0, see NOTE.md and LICENSE in this folder)."""
