// A table has at most 64 labels.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
#[rustfmt::skip]
struct Call {
    #[label] label_0: String,    #[label] label_1: String,    #[label] label_2: String,    #[label] label_3: String,
    #[label] label_4: String,    #[label] label_5: String,    #[label] label_6: String,    #[label] label_7: String,
    #[label] label_8: String,    #[label] label_9: String,    #[label] label_10: String,    #[label] label_11: String,
    #[label] label_12: String,    #[label] label_13: String,    #[label] label_14: String,    #[label] label_15: String,
    #[label] label_16: String,    #[label] label_17: String,    #[label] label_18: String,    #[label] label_19: String,
    #[label] label_20: String,    #[label] label_21: String,    #[label] label_22: String,    #[label] label_23: String,
    #[label] label_24: String,    #[label] label_25: String,    #[label] label_26: String,    #[label] label_27: String,
    #[label] label_28: String,    #[label] label_29: String,    #[label] label_30: String,    #[label] label_31: String,
    #[label] label_32: String,    #[label] label_33: String,    #[label] label_34: String,    #[label] label_35: String,
    #[label] label_36: String,    #[label] label_37: String,    #[label] label_38: String,    #[label] label_39: String,
    #[label] label_40: String,    #[label] label_41: String,    #[label] label_42: String,    #[label] label_43: String,
    #[label] label_44: String,    #[label] label_45: String,    #[label] label_46: String,    #[label] label_47: String,
    #[label] label_48: String,    #[label] label_49: String,    #[label] label_50: String,    #[label] label_51: String,
    #[label] label_52: String,    #[label] label_53: String,    #[label] label_54: String,    #[label] label_55: String,
    #[label] label_56: String,    #[label] label_57: String,    #[label] label_58: String,    #[label] label_59: String,
    #[label] label_60: String,    #[label] label_61: String,    #[label] label_62: String,    #[label] label_63: String,
    #[label]
    one_too_many: String,
}

fn main() {}
