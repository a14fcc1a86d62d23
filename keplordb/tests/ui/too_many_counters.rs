// A table has at most 64 counters.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
#[rustfmt::skip]
struct Call {
    #[counter] counter_0: u32,    #[counter] counter_1: u32,    #[counter] counter_2: u32,    #[counter] counter_3: u32,
    #[counter] counter_4: u32,    #[counter] counter_5: u32,    #[counter] counter_6: u32,    #[counter] counter_7: u32,
    #[counter] counter_8: u32,    #[counter] counter_9: u32,    #[counter] counter_10: u32,    #[counter] counter_11: u32,
    #[counter] counter_12: u32,    #[counter] counter_13: u32,    #[counter] counter_14: u32,    #[counter] counter_15: u32,
    #[counter] counter_16: u32,    #[counter] counter_17: u32,    #[counter] counter_18: u32,    #[counter] counter_19: u32,
    #[counter] counter_20: u32,    #[counter] counter_21: u32,    #[counter] counter_22: u32,    #[counter] counter_23: u32,
    #[counter] counter_24: u32,    #[counter] counter_25: u32,    #[counter] counter_26: u32,    #[counter] counter_27: u32,
    #[counter] counter_28: u32,    #[counter] counter_29: u32,    #[counter] counter_30: u32,    #[counter] counter_31: u32,
    #[counter] counter_32: u32,    #[counter] counter_33: u32,    #[counter] counter_34: u32,    #[counter] counter_35: u32,
    #[counter] counter_36: u32,    #[counter] counter_37: u32,    #[counter] counter_38: u32,    #[counter] counter_39: u32,
    #[counter] counter_40: u32,    #[counter] counter_41: u32,    #[counter] counter_42: u32,    #[counter] counter_43: u32,
    #[counter] counter_44: u32,    #[counter] counter_45: u32,    #[counter] counter_46: u32,    #[counter] counter_47: u32,
    #[counter] counter_48: u32,    #[counter] counter_49: u32,    #[counter] counter_50: u32,    #[counter] counter_51: u32,
    #[counter] counter_52: u32,    #[counter] counter_53: u32,    #[counter] counter_54: u32,    #[counter] counter_55: u32,
    #[counter] counter_56: u32,    #[counter] counter_57: u32,    #[counter] counter_58: u32,    #[counter] counter_59: u32,
    #[counter] counter_60: u32,    #[counter] counter_61: u32,    #[counter] counter_62: u32,    #[counter] counter_63: u32,
    #[counter]
    one_too_many: u32,
}

fn main() {}
